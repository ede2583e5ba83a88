package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.StartableByRPC;
import net.corda.core.identity.CordaX500Name;

/** The current version of a record that the node's bank owns or reads. */
@StartableByRPC
public final class ReadRecord extends FlowLogic<StateAndRef<CreditRecord>> {
    private final CordaX500Name bank;
    private final String person;

    /**
     * @param bank the owner, by the name of any of its nodes or without OU
     * @param person the owner's reference
     */
    public ReadRecord(CordaX500Name bank, String person) {
        this.bank = bank;
        this.person = person;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws Refusal {
        StateAndRef<CreditRecord> current = Ledger.current(getServiceHub(), CreditRecord.idOf(CreditRecord.bankOf(bank), person));
        if (current == null) {
            throw Refusal.of("this node has no record of %s by %s; wanted one that its bank owns or reads", person,
                    CreditRecord.bankOf(bank));
        }
        return current;
    }
}
