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
 * Sends a version of a record to an identity of a bank that has it, however long that is away. What is not taken is sent again, for
 * the reason may pass: a party of the record or a CorDapp that is not known there yet. It ends without where the receiver refuses
 * for good, or the name has got another key since: what was shared with the old one, nobody holds any more.
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
                    // Which is told when it is recorded there.
                    session.receive(Boolean.class);
                    return null;
                } catch (Refusal e) {
                    if (!e.isAgain()) {
                        LOG.error("{} refuses {}: {}", party.getName(), committed.getId(), e.getMessage());
                        return null;
                    }
                    reason = e.getMessage();
                } catch (FlowException | UnexpectedFlowEndException e) {
                    reason = e.getMessage();
                }
            } else if (Ledger.hasAnotherKey(getServiceHub(), party)) {
                LOG.error("{} has another key than in {}: it does not get that", party.getName(), committed.getId());
                return null;
            } else {
                reason = "it is not in the network map";
            }
            LOG.error("{} does not take {}: {}; it is sent again in {}", party.getName(), committed.getId(), reason, pause);
            sleep(pause);
            pause = pause.multipliedBy(2).compareTo(LONGEST_PAUSE) < 0 ? pause.multipliedBy(2) : LONGEST_PAUSE;
        }
    }
}
