package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.time.Duration;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;

/** The own bank's record. Waits for a version that the application may have seen at another node of the bank. */
final class FindOwnRecord extends FlowLogic<StateAndRef<CreditRecord>> {
    private static final Duration PAUSE = Duration.ofMillis(500);
    private static final int TRIES = 5;

    private final String person;
    private final int version;

    FindOwnRecord(String person, int version) {
        this.person = person;
        this.version = version;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws FlowException {
        StateAndRef<CreditRecord> current = null;
        for (int tries = 1; tries <= TRIES; tries++) {
            current = Ledger.current(getServiceHub(),
                    CreditRecord.idOf(CreditRecord.bankOf(getOurIdentity().getName()), person));
            if (current != null && current.getState().getData().getVersion() >= version) {
                return current;
            }
            if (tries < TRIES) {
                sleep(PAUSE);
            }
        }
        if (current == null) {
            // The caller has seen a version at another node of the bank, which may not have reached this node yet.
            throw Refusal.retryable("this node of %s has no record of %s yet; wanted one that was created before",
                    CreditRecord.bankOf(getOurIdentity().getName()), person);
        }
        throw Refusal.retryable("%s has come to this node; wanted version %s", current.getState().getData(), version);
    }
}
