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

/** The responder of {@link CommitRecord}: signs a record that a node of its owner proposes. */
@InitiatedBy(CommitRecord.class)
final class CommitRecordResponder extends FlowLogic<Void> {
    private final FlowSession session;

    CommitRecordResponder(FlowSession session) {
        this.session = session;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        subFlow(new SignTransactionFlow(session) {
            @Override
            protected void checkTransaction(SignedTransaction transaction) throws FlowException {
                CreditRecord record = reported(this, session, transaction);
                checkCurrentKeys(record, transaction);
                checkOnlyOne(record, transaction);
            }
        });
        return null;
    }

    /** Checks what no contract can: the record comes from a node of its owner, and its keys belong to the names beside them. */
    static CreditRecord reported(FlowLogic<?> flow, FlowSession session, SignedTransaction transaction) throws Refusal {
        List<CreditRecord> records = transaction.getTx().outputsOfType(CreditRecord.class);
        if (records.size() != 1) {
            throw Refusal.of("transaction %s has %s credit records; wanted one", transaction.getId(), records.size());
        }
        CreditRecord record = records.get(0);
        if (!CreditRecord.bankOf(session.getCounterparty().getName()).equals(record.bank())) {
            throw Refusal.of("%s reports %s; wanted one of its owner's nodes", session.getCounterparty().getName(), record);
        }
        Party unknown = Ledger.unknownParty(flow.getServiceHub(), record);
        if (unknown != null) {
            throw Refusal.retryable("%s is not known at %s by the key in the record; wanted one that the network map has or had",
                    unknown.getName(), flow.getOurIdentity().getName());
        }
        return record;
    }

    /** A replaced key can't sign: it may be stolen. */
    private void checkCurrentKeys(CreditRecord record, SignedTransaction transaction) throws Refusal {
        Set<PublicKey> signers = transaction.getRequiredSigningKeys();
        for (Party party : record.parties()) {
            if (signers.contains(party.getOwningKey()) && Ledger.hasAnotherKey(getServiceHub(), party)) {
                throw Refusal.retryable("%s signs by a key that it had before; wanted the one in the network map of %s",
                        party.getName(), getOurIdentity().getName());
            }
        }
    }

    private void checkOnlyOne(CreditRecord record, SignedTransaction transaction) throws Refusal {
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), record.getLinearId());
        if (record.getVersion() == 1 && there != null && !there.getRef().getTxhash().equals(transaction.getId())) {
            throw Refusal.retryable("%s has %s already", getOurIdentity().getName(), there.getState().getData());
        }
    }
}
