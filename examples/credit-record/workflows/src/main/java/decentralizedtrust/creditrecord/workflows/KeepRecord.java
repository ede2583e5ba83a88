package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.security.SignatureException;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.flows.ReceiveTransactionFlow;
import net.corda.core.identity.Party;
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
        CreditRecord record = AcceptRecord.reported(this, session, committed);
        for (Party party : AcceptRecord.signersByFormerKeys(getServiceHub(), record, committed)) {
            // An older version may come late, and of another bank's signature the bank itself made sure when it signed.
            if (CreditRecord.bankOf(party.getName()).equals(CreditRecord.bankOf(getOurIdentity().getName()))) {
                throw Refusal.of("%s signed by a key that it had before; wanted this bank's consent by one that it has", party.getName());
            }
        }
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
