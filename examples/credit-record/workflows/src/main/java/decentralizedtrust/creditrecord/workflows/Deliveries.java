package decentralizedtrust.creditrecord.workflows;

import net.corda.core.identity.Party;
import net.corda.core.node.AppServiceHub;
import net.corda.core.node.services.CordaService;
import net.corda.core.serialization.SingletonSerializeAsToken;
import net.corda.core.transactions.SignedTransaction;

/** Begins deliveries; the node's database keeps each until it is done. */
@CordaService
public final class Deliveries extends SingletonSerializeAsToken {
    private final AppServiceHub services;

    public Deliveries(AppServiceHub services) {
        this.services = services;
    }

    void begin(Party party, SignedTransaction committed) {
        services.startFlow(new DeliverRecord(party, committed));
    }
}
