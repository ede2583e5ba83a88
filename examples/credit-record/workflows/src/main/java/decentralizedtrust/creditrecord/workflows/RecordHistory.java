package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.util.List;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.StartableByRPC;
import net.corda.core.identity.CordaX500Name;

/** All versions of a record that the node's bank owns or reads, the first report first. */
@StartableByRPC
public final class RecordHistory extends FlowLogic<List<StateAndRef<CreditRecord>>> {
    private final CordaX500Name bank;
    private final String person;

    /**
     * @param bank the owner, by the name of any of its nodes or without OU
     * @param person the owner's reference
     */
    public RecordHistory(CordaX500Name bank, String person) {
        this.bank = bank;
        this.person = person;
    }

    @Override
    @Suspendable
    public List<StateAndRef<CreditRecord>> call() throws FlowException {
        return Ledger.versions(getServiceHub(), subFlow(new ReadRecord(bank, person)), 1);
    }
}
