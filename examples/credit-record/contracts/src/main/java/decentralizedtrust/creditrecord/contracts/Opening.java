package decentralizedtrust.creditrecord.contracts;

import java.util.Collections;
import java.util.List;
import net.corda.core.contracts.BelongsToContract;
import net.corda.core.contracts.LinearState;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.identity.AbstractParty;
import net.corda.core.identity.CordaX500Name;

/**
 * The input of a record's first version. It contains only bank and person, so all of a bank's nodes make the same transaction
 * of it, which the notary lets only one first report consume: no retry, at any node, makes a second record of a person.
 */
@BelongsToContract(CreditRecordContract.class)
public final class Opening implements LinearState {
    private final UniqueIdentifier linearId;
    private final CordaX500Name bank;

    /** @param linearId of {@link CreditRecord#idOf} for the bank and the person */
    public Opening(UniqueIdentifier linearId, CordaX500Name bank) {
        this.linearId = linearId;
        this.bank = bank;
    }

    @Override
    public UniqueIdentifier getLinearId() {
        return linearId;
    }

    public CordaX500Name getBank() {
        return bank;
    }

    /** None: no vault stores it. */
    @Override
    public List<AbstractParty> getParticipants() {
        return Collections.emptyList();
    }
}
