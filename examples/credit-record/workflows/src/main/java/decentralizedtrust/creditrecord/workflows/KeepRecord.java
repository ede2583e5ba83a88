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
 * The other side of {@link DeliverRecord}. Versions may come in any order and twice: those before one are recorded with it, and
 * one that is there already is left alone.
 */
@InitiatedBy(DeliverRecord.class)
final class KeepRecord extends FlowLogic<Void> {
    private final FlowSession session;

    KeepRecord(FlowSession session) {
        this.session = session;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        // With signatures checked there, a transaction would be stored without its record.
        SignedTransaction committed = subFlow(new ReceiveTransactionFlow(session, false));
        AcceptRecord.reported(this, session, committed);
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
