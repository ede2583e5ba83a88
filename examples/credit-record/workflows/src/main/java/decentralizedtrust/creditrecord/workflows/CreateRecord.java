package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.StartableByRPC;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;

/** The first report of a person, by the node's own bank. Repeated with the same request it gives what there is already. */
@StartableByRPC
public final class CreateRecord extends RecordChange {
    private final String person;
    private final int score;
    private final Status status;
    private final List<CordaX500Name> readers;
    private final String request;

    /**
     * @param person the bank's own, opaque reference
     * @param score 300 to 850
     * @param readers the banks to share the record with, by the name of any of their nodes or without OU
     * @param request the application's reference of this change
     */
    public CreateRecord(String person, int score, Status status, List<CordaX500Name> readers, String request) {
        this.person = person;
        this.score = score;
        this.status = status;
        this.readers = readers;
        this.request = request;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws FlowException {
        CordaX500Name bank = CreditRecord.bankOf(getOurIdentity().getName());
        UniqueIdentifier id = CreditRecord.idOf(bank, person);
        StateAndRef<CreditRecord> there = Ledger.current(getServiceHub(), id);
        if (there != null) {
            StateAndRef<CreditRecord> first = CommitRecord.repeated(Ledger.versions(getServiceHub(), there, 1).get(0), score, status,
                    request);
            Set<CordaX500Name> before = CreditRecord.banksOf(first.getState().getData().getReaders());
            Set<CordaX500Name> now = readers.stream().map(CreditRecord::bankOf).collect(Collectors.toSet());
            if (!before.equals(now)) {
                throw Refusal.of("request %s shared with %s before and with %s now; wanted ShareRecord for a further bank", request,
                        before, now);
            }
            return first;
        }
        List<Party> others = Collections.emptyList();
        for (CordaX500Name reader : readers) {
            others = Ledger.with(getServiceHub(), others, CreditRecord.bankOf(reader));
        }
        return commit(Ledger.opening(getServiceHub(), id, bank), new Commands.Create(),
                new CreditRecord(id, Ledger.identities(getServiceHub(), bank), others, score, status, 1,
                        Ledger.now(getServiceHub()), request));
    }
}
