package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.util.List;
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
                checkOnlyOne(reported(this, session, transaction), transaction);
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
        if (!record.getOwners().contains(session.getCounterparty())) {
            throw Refusal.of("%s reports %s; wanted one of its owner's nodes", session.getCounterparty().getName(), record);
        }
        for (Party party : record.parties()) {
            // Also a key that the name had before: whoever has a record is never left out of it.
            Party known = flow.getServiceHub().getIdentityService().partyFromKey(party.getOwningKey());
            if (known == null || !known.getName().equals(party.getName())) {
                throw Refusal.askAgain("%s is not known at %s by the key in the record; wanted one that the network map has or had",
                        party.getName(), flow.getOurIdentity().getName());
            }
        }
        return record;
    }

    private void checkOnlyOne(CreditRecord record, SignedTransaction transaction) throws Refusal {
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), record.getLinearId());
        if (record.getVersion() == 1 && there != null && !there.getRef().getTxhash().equals(transaction.getId())) {
            throw Refusal.askAgain("%s has %s already", getOurIdentity().getName(), there.getState().getData());
        }
    }
}
