package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.security.PublicKey;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.flows.SignTransactionFlow;
import net.corda.core.identity.Party;
import net.corda.core.node.ServiceHub;
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
                for (Party party : signersByFormerKeys(getServiceHub(), record, transaction)) {
                    throw Refusal.askAgain("%s signs by a key that it had before; wanted the one in the network map of %s",
                            party.getName(), getOurIdentity().getName());
                }
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
        if (!record.getOwners().contains(session.getCounterparty())) {
            throw Refusal.of("%s reports %s; wanted one of its owner's nodes", session.getCounterparty().getName(), record);
        }
        for (Party party : record.parties()) {
            // Also a key that the name had before: whoever has a record is never left out of it. But it signs nothing new.
            Party known = flow.getServiceHub().getIdentityService().partyFromKey(party.getOwningKey());
            if (known == null || !known.getName().equals(party.getName())) {
                throw Refusal.askAgain("%s is not known at %s by the key in the record; wanted one that the network map has or had",
                        party.getName(), flow.getOurIdentity().getName());
            }
        }
        return record;
    }

    /** Who of the record's parties signs by a key that is not in the network map any more: perhaps one who stole it. */
    static List<Party> signersByFormerKeys(ServiceHub services, CreditRecord record, SignedTransaction transaction) {
        Set<PublicKey> signers = transaction.getRequiredSigningKeys();
        return record.parties().stream()
                .filter(party -> signers.contains(party.getOwningKey()) && !Ledger.isReached(services, party))
                .collect(Collectors.toList());
    }

    private void checkOnlyOne(CreditRecord record, SignedTransaction transaction) throws Refusal {
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), record.getLinearId());
        if (record.getVersion() == 1 && there != null && !there.getRef().getTxhash().equals(transaction.getId())) {
            throw Refusal.askAgain("%s has %s already", getOurIdentity().getName(), there.getState().getData());
        }
    }
}
