package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.StartableByRPC;
import net.corda.core.identity.CordaX500Name;

/**
 * Shares a record of the node's own bank with all identities of a bank: a new reader, or new identities of a reader or of the
 * owner itself. Returns the current version if all of them have it.
 */
@StartableByRPC
public final class ShareRecord extends RecordChange {
    private final String person;
    private final CordaX500Name with;
    private final String request;

    /**
     * @param person the bank's own, opaque reference
     * @param with the bank, by the name of any of its nodes or without OU
     * @param request the application's reference of this change
     */
    public ShareRecord(String person, CordaX500Name with, String request) {
        this.person = person;
        this.with = with;
        this.request = request;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws FlowException {
        StateAndRef<CreditRecord> current = subFlow(new FindOwnRecord(person, 1));
        CreditRecord record = current.getState().getData();
        CreditRecord next = Ledger.next(getServiceHub(), record, record.getScore(), record.getStatus(),
                CreditRecord.bankOf(with), request);
        return next.parties().size() == record.parties().size()
                ? current
                : commit(current, new Commands.Update(), next);
    }
}
