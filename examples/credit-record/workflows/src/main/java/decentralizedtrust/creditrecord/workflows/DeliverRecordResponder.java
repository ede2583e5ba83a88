package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import java.security.SignatureException;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.flows.ReceiveTransactionFlow;
import net.corda.core.transactions.SignedTransaction;

/**
 * The responder of {@link DeliverRecord}: records a version, and the versions before it. Versions may come in any order; one that
 * is recorded already has no effect.
 */
@InitiatedBy(DeliverRecord.class)
final class DeliverRecordResponder extends FlowLogic<Void> {
    private final FlowSession session;

    DeliverRecordResponder(FlowSession session) {
        this.session = session;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        // If that flow checked the signatures, the transaction would be stored without its record.
        SignedTransaction committed = subFlow(new ReceiveTransactionFlow(session, false));
        CommitRecordResponder.reported(this, session, committed);
        try {
            committed.verifyRequiredSignatures();
        } catch (SignatureException e) {
            throw new FlowException(e.getMessage(), e);
        }
        getServiceHub().recordTransactions(committed);
        session.send(true);
        return null;
    }
}
