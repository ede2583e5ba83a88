package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.StartableByRPC;

/** A new score of the node's own bank. Repeated with the same request, it returns the existing version. */
@StartableByRPC
public final class UpdateRecord extends RecordChange {
    private final String person;
    private final int version;
    private final int score;
    private final Status status;
    private final String request;

    /**
     * @param person the bank's own, opaque reference
     * @param version the version on which the new score is based; the update makes the next
     * @param score 300 to 850
     * @param request the application's reference of this change
     */
    public UpdateRecord(String person, int version, int score, Status status, String request) {
        this.person = person;
        this.version = version;
        this.score = score;
        this.status = status;
        this.request = request;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws FlowException {
        if (version < 1) {
            throw Refusal.of("version is %s; wanted 1 or more", version);
        }
        StateAndRef<CreditRecord> current = subFlow(new FindOwnRecord(person, version));
        CreditRecord record = current.getState().getData();
        if (record.getVersion() > version) {
            StateAndRef<CreditRecord> next = Ledger.versions(getServiceHub(), current, version + 1).get(0);
            return CommitRecord.repeated(next, score, status, request);
        }
        return commit(current, new Commands.Update(),
                Ledger.next(getServiceHub(), record, score, status, record.bank(), request));
    }
}
