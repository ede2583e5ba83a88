package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.utilities.ProgressTracker;

/** A change of a record of the node's own bank, with {@link Stage}s as its progress. */
abstract class RecordChange extends FlowLogic<StateAndRef<CreditRecord>> {
    private final ProgressTracker progressTracker = Stage.tracker();

    @Override
    public ProgressTracker getProgressTracker() {
        return progressTracker;
    }

    @Suspendable
    StateAndRef<CreditRecord> commit(StateAndRef<?> input, Commands command, CreditRecord record) throws FlowException {
        return subFlow(new CommitRecord(input, command, record, progressTracker));
    }
}
