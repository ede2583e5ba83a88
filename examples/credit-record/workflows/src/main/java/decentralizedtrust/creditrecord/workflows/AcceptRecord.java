package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.security.SignatureException;
import java.util.List;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.flows.ReceiveFinalityFlow;
import net.corda.core.flows.ReceiveTransactionFlow;
import net.corda.core.flows.SignTransactionFlow;
import net.corda.core.identity.Party;
import net.corda.core.transactions.SignedTransaction;

/** The other side of {@link CommitRecord}: signs, if asked to, and records what the owning bank itself reports. */
@InitiatedBy(CommitRecord.class)
final class AcceptRecord extends FlowLogic<Void> {
    private final FlowSession session;

    AcceptRecord(FlowSession session) {
        this.session = session;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        boolean sign = session.receive(Boolean.class).unwrap(asked -> asked);
        if (sign) {
            SignedTransaction signed = subFlow(new SignTransactionFlow(session) {
                @Override
                protected void checkTransaction(SignedTransaction transaction) throws FlowException {
                    checkOnlyOne(checkReported(transaction), transaction);
                }
            });
            subFlow(new ReceiveFinalityFlow(session, signed.getId()));
        } else {
            SignedTransaction committed = subFlow(new ReceiveTransactionFlow(session, false));
            checkReported(committed);
            checkSigned(committed);
            getServiceHub().recordTransactions(committed);
        }
        return null;
    }

    /** What no contract can see: who is asking, and whether the keys in the record are those of the names beside them. */
    private CreditRecord checkReported(SignedTransaction transaction) throws Refusal {
        List<CreditRecord> records = transaction.getTx().outputsOfType(CreditRecord.class);
        if (records.size() != 1) {
            throw Refusal.of("transaction %s has %s credit records; wanted one", transaction.getId(), records.size());
        }
        CreditRecord record = records.get(0);
        if (!record.getOwners().contains(session.getCounterparty())) {
            throw Refusal.of("%s reports %s; wanted one of its owner's nodes", session.getCounterparty().getName(), record);
        }
        for (Party party : record.parties()) {
            Party known = getServiceHub().getIdentityService().wellKnownPartyFromX500Name(party.getName());
            if (!party.equals(known)) {
                throw Refusal.askAgain("%s is not known at %s by the key in the record; wanted that of the network map",
                        party.getName(), getOurIdentity().getName());
            }
        }
        return record;
    }

    private static void checkSigned(SignedTransaction transaction) throws FlowException {
        try {
            transaction.verifyRequiredSignatures();
        } catch (SignatureException e) {
            throw new FlowException(e.getMessage(), e);
        }
    }

    private void checkOnlyOne(CreditRecord record, SignedTransaction transaction) throws Refusal {
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), record.getLinearId());
        if (record.getVersion() == 1 && there != null && !there.getRef().getTxhash().equals(transaction.getId())) {
            throw Refusal.askAgain("%s has %s already", getOurIdentity().getName(), there.getState().getData());
        }
    }
}
