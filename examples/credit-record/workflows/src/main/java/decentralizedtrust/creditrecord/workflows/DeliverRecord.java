package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import java.time.Duration;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatingFlow;
import net.corda.core.flows.SendTransactionFlow;
import net.corda.core.flows.StartableByService;
import net.corda.core.flows.UnexpectedFlowEndException;
import net.corda.core.identity.Party;
import net.corda.core.transactions.SignedTransaction;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Sends a version of a record to an identity of a bank that has the record, however long that identity is unavailable. A version that
 * is not accepted is sent again, since the reason may pass, such as a party of the record or a CorDapp that the receiver does not
 * know yet. The flow gives up if the receiver refuses permanently, or if the name has another key now: nobody holds the old one.
 */
@InitiatingFlow
@StartableByService
final class DeliverRecord extends FlowLogic<Void> {
    private static final Logger LOG = LoggerFactory.getLogger(DeliverRecord.class);
    private static final Duration FIRST_PAUSE = Duration.ofSeconds(30);
    /** Corda lets no flow sleep longer. */
    private static final Duration LONGEST_PAUSE = Duration.ofMinutes(5);

    private final Party party;
    private final SignedTransaction committed;

    DeliverRecord(Party party, SignedTransaction committed) {
        this.party = party;
        this.committed = committed;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        Duration pause = FIRST_PAUSE;
        while (true) {
            String reason;
            if (Ledger.isReached(getServiceHub(), party)) {
                FlowSession session = initiateFlow(party);
                try {
                    subFlow(new SendTransactionFlow(session, committed));
                    // The receiver answers once the version is recorded.
                    session.receive(Boolean.class);
                    return null;
                } catch (Refusal e) {
                    if (!e.isRetryable()) {
                        LOG.error("{} refuses {}: {}", party.getName(), committed.getId(), e.getMessage());
                        return null;
                    }
                    reason = e.getMessage();
                } catch (FlowException | UnexpectedFlowEndException e) {
                    reason = e.getMessage();
                }
            } else if (Ledger.hasAnotherKey(getServiceHub(), party)) {
                LOG.error("{} has another key than in {}: that version is not sent", party.getName(), committed.getId());
                return null;
            } else {
                reason = "it is not in the network map";
            }
            LOG.error("{} does not accept {}: {}; it is sent again in {}", party.getName(), committed.getId(), reason, pause);
            sleep(pause);
            pause = pause.multipliedBy(2).compareTo(LONGEST_PAUSE) < 0 ? pause.multipliedBy(2) : LONGEST_PAUSE;
        }
    }
}
