package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.security.PublicKey;
import java.util.List;
import java.util.Set;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.flows.SignTransactionFlow;
import net.corda.core.identity.Party;
import net.corda.core.transactions.SignedTransaction;

/** The other side of {@link CommitRecord}: signs what the owning bank itself reports. */
@InitiatedBy(CommitRecord.class)
final class AcceptRecord extends FlowLogic<Void> {
    private final FlowSession session;

    AcceptRecord(FlowSession session) {
        this.session = session;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        subFlow(new SignTransactionFlow(session) {
            @Override
            protected void checkTransaction(SignedTransaction transaction) throws FlowException {
                CreditRecord record = reported(this, session, transaction);
                signedByPresentKeys(record, transaction);
                checkOnlyOne(record, transaction);
            }
        });
        return null;
    }

    /** What no contract can see: who is asking, and whether the keys in the record are those of the names beside them. */
    static CreditRecord reported(FlowLogic<?> flow, FlowSession session, SignedTransaction transaction) throws Refusal {
        List<CreditRecord> records = transaction.getTx().outputsOfType(CreditRecord.class);
        if (records.size() != 1) {
            throw Refusal.of("transaction %s has %s credit records; wanted one", transaction.getId(), records.size());
        }
        CreditRecord record = records.get(0);
        if (!CreditRecord.bankOf(session.getCounterparty().getName()).equals(record.bank())) {
            throw Refusal.of("%s reports %s; wanted one of its owner's nodes", session.getCounterparty().getName(), record);
        }
        Party stranger = Ledger.stranger(flow.getServiceHub(), record);
        if (stranger != null) {
            throw Refusal.askAgain("%s is not known at %s by the key in the record; wanted one that the network map has or had",
                    stranger.getName(), flow.getOurIdentity().getName());
        }
        return record;
    }

    /** A key that a name had before agrees to nothing: someone may have stolen it. */
    private void signedByPresentKeys(CreditRecord record, SignedTransaction transaction) throws Refusal {
        Set<PublicKey> signers = transaction.getRequiredSigningKeys();
        for (Party party : record.parties()) {
            if (signers.contains(party.getOwningKey()) && Ledger.hasAnotherKey(getServiceHub(), party)) {
                throw Refusal.askAgain("%s signs by a key that it had before; wanted the one in the network map of %s",
                        party.getName(), getOurIdentity().getName());
            }
        }
    }

    private void checkOnlyOne(CreditRecord record, SignedTransaction transaction) throws Refusal {
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), record.getLinearId());
        if (record.getVersion() == 1 && there != null && !there.getRef().getTxhash().equals(transaction.getId())) {
            throw Refusal.askAgain("%s has %s already", getOurIdentity().getName(), there.getState().getData());
        }
    }
}
