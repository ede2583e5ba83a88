package decentralizedtrust.creditrecord.workflows;

import net.corda.core.identity.Party;
import net.corda.core.node.AppServiceHub;
import net.corda.core.node.services.CordaService;
import net.corda.core.serialization.SingletonSerializeAsToken;
import net.corda.core.transactions.SignedTransaction;

/** Starts deliveries, which the node's database stores until they are done. */
@CordaService
public final class DeliveryService extends SingletonSerializeAsToken {
    private final AppServiceHub services;

    public DeliveryService(AppServiceHub services) {
        this.services = services;
    }

    void begin(Party party, SignedTransaction committed) {
        services.startFlow(new DeliverRecord(party, committed));
    }
}
