package decentralizedtrust.creditrecord.contracts;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import net.corda.core.contracts.BelongsToContract;
import net.corda.core.contracts.LinearState;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.identity.AbstractParty;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.serialization.CordaSerializable;

/**
 * One bank's report of one person's credit, shared with banks that it chooses.
 *
 * <p>A bank is all node identities whose legal names agree in all but CN and OU. Every identity of the owning bank and of
 * the reading banks is a participant, so each of a bank's nodes can process its requests.
 */
@BelongsToContract(CreditRecordContract.class)
public final class CreditRecord implements LinearState {
    /** How the person pays. There is no free text, since a ledger can't delete it. */
    @CordaSerializable
    public enum Status { CURRENT, LATE, DEFAULTED }

    private final UniqueIdentifier linearId;
    private final List<Party> owners;
    private final List<Party> readers;
    private final int score;
    private final Status status;
    private final int version;
    private final Instant reportedAt;
    private final String request;

    /**
     * @param linearId of {@link #idOf}
     * @param owners identities of the owning bank
     * @param readers identities of the banks that the record is shared with
     * @param score 300 to 850
     * @param version 1 for the first report, then one more with each change
     * @param reportedAt when the owning bank reported this version
     * @param request the reference that the bank's application chose for the change which made this version
     */
    public CreditRecord(UniqueIdentifier linearId, List<Party> owners, List<Party> readers, int score, Status status,
            int version, Instant reportedAt, String request) {
        this.linearId = linearId;
        this.owners = owners;
        this.readers = readers;
        this.score = score;
        this.status = status;
        this.version = version;
        this.reportedAt = reportedAt;
        this.request = request;
    }

    /** The only id of a bank's record of a person; {@code person} is the bank's own, opaque reference. */
    public static UniqueIdentifier idOf(CordaX500Name bank, String person) {
        return new UniqueIdentifier(person, UUID.nameUUIDFromBytes((bank + "\n" + person).getBytes(StandardCharsets.UTF_8)));
    }

    /** The bank that a node's legal name belongs to: the name without CN and OU. */
    public static CordaX500Name bankOf(CordaX500Name node) {
        return new CordaX500Name(null, null, node.getOrganisation(), node.getLocality(), node.getState(), node.getCountry());
    }

    /** The banks of these identities, in the order of the identities. */
    public static Set<CordaX500Name> banksOf(List<Party> identities) {
        return identities.stream().map(party -> bankOf(party.getName())).collect(Collectors.toCollection(LinkedHashSet::new));
    }

    /** The bank's own, opaque reference of the person. */
    public String person() {
        return linearId.getExternalId();
    }

    /** The owning bank. */
    public CordaX500Name bank() {
        return bankOf(owners.get(0).getName());
    }

    /** All identities that have the record, the owner's first. */
    public List<Party> parties() {
        return Stream.concat(owners.stream(), readers.stream()).collect(Collectors.toList());
    }

    @Override
    public List<AbstractParty> getParticipants() {
        return Stream.concat(owners.stream(), readers.stream()).collect(Collectors.toList());
    }

    @Override
    public UniqueIdentifier getLinearId() {
        return linearId;
    }

    public List<Party> getOwners() {
        return owners;
    }

    public List<Party> getReaders() {
        return readers;
    }

    public int getScore() {
        return score;
    }

    public Status getStatus() {
        return status;
    }

    public int getVersion() {
        return version;
    }

    public Instant getReportedAt() {
        return reportedAt;
    }

    public String getRequest() {
        return request;
    }

    @Override
    public String toString() {
        return "version " + version + " of " + person() + " at " + bank();
    }
}
