package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import java.time.Duration;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.InitiatingFlow;
import net.corda.core.flows.SendTransactionFlow;
import net.corda.core.flows.StartableByService;
import net.corda.core.identity.Party;
import net.corda.core.transactions.SignedTransaction;

/** Sends a version of a record to an identity that did not sign it, however long that is away. */
@InitiatingFlow
@StartableByService
final class DeliverRecord extends FlowLogic<Void> {
    private static final Duration PAUSE = Duration.ofSeconds(30);

    private final Party party;
    private final SignedTransaction committed;

    DeliverRecord(Party party, SignedTransaction committed) {
        this.party = party;
        this.committed = committed;
    }

    @Override
    @Suspendable
    public Void call() throws FlowException {
        while (true) {
            try {
                return subFlow(new SendTransactionFlow(initiateFlow(party), committed));
            } catch (Refusal e) {
                if (!e.isAgain()) {
                    throw e;
                }
                sleep(PAUSE);
            }
        }
    }
}
