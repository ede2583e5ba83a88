package decentralizedtrust.creditrecord.contracts;

import static net.corda.core.contracts.ContractsDSL.requireSingleCommand;

import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import java.security.PublicKey;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import net.corda.core.contracts.CommandData;
import net.corda.core.contracts.CommandWithParties;
import net.corda.core.contracts.Contract;
import net.corda.core.contracts.ContractState;
import net.corda.core.contracts.LinearState;
import net.corda.core.contracts.TypeOnlyCommandData;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.transactions.LedgerTransaction;

/** The rules of a {@link CreditRecord}, the same at every bank. */
public final class CreditRecordContract implements Contract {
    public static final int LOWEST_SCORE = 300;
    public static final int HIGHEST_SCORE = 850;

    /** How far a report's time may be ahead of the notary's clock. */
    public static final Duration CLOCK_TOLERANCE = Duration.ofSeconds(30);

    private static final Pattern REFERENCE = Pattern.compile("[A-Za-z0-9._-]{1,64}");

    public interface Commands extends CommandData {
        /** Makes the {@link Opening} of a record. */
        final class Open extends TypeOnlyCommandData implements Commands {}

        /** Consumes the opening: the first report. */
        final class Create extends TypeOnlyCommandData implements Commands {}

        /** Replaces a version by the next: another score or status, further readers. */
        final class Update extends TypeOnlyCommandData implements Commands {}
    }

    @Override
    public void verify(LedgerTransaction tx) {
        require(tx.getReferenceStates().isEmpty(), "%s states are referred to; wanted none", tx.getReferenceStates().size());
        CommandWithParties<Commands> command = requireSingleCommand(tx.getCommands(), Commands.class);
        if (command.getValue() instanceof Commands.Open) {
            open(tx);
            return;
        }
        CreditRecord record = single(tx.getOutputStates(), CreditRecord.class, "output");
        wellFormed(record, tx);
        if (command.getValue() instanceof Commands.Create) {
            Opening opening = single(tx.getInputStates(), Opening.class, "input");
            require(sameId(opening, record), "opening is of another record; wanted that of %s", record.person());
            require(record.getVersion() == 1, "version is %s; wanted 1 for a first report", record.getVersion());
            signed(command.getSigners(), record, record);
        } else {
            CreditRecord previous = single(tx.getInputStates(), CreditRecord.class, "input");
            follows(previous, record);
            signed(command.getSigners(), previous, record);
        }
    }

    private static void open(LedgerTransaction tx) {
        require(tx.getInputStates().isEmpty(), "an opening has %s inputs; wanted none", tx.getInputStates().size());
        Opening opening = single(tx.getOutputStates(), Opening.class, "output");
        require(opening.getBank().equals(CreditRecord.bankOf(opening.getBank())), "bank is %s; wanted a name without CN and OU",
                opening.getBank());
        require(LegalNames.isPlain(opening.getBank()), "bank is %s; wanted a name in printable basic Latin", opening.getBank());
        identified(opening, opening.getBank());
    }

    private static void wellFormed(CreditRecord record, LedgerTransaction tx) {
        List<Party> parties = record.parties();
        require(CreditRecord.banksOf(record.getOwners()).size() == 1, "owners are %s; wanted identities of one bank",
                record.getOwners());
        require(!CreditRecord.banksOf(record.getReaders()).contains(record.bank()), "readers are %s; wanted other banks than %s",
                record.getReaders(), record.bank());
        require(parties.stream().map(Party::getName).distinct().count() == parties.size()
                && parties.stream().map(Party::getOwningKey).distinct().count() == parties.size(),
                "parties are %s; wanted each name and each key once", parties);
        require(parties.stream().map(Party::getName).allMatch(LegalNames::isPlain), "parties are %s; wanted names in printable basic Latin",
                parties);
        Set<CordaX500Name> banks = CreditRecord.banksOf(parties);
        require(banks.stream().map(LegalNames::key).distinct().count() == banks.size(),
                "banks are %s; wanted names that differ in more than case", banks);
        identified(record, record.bank());
        require(matches(record.getRequest()), "request is %s; wanted %s", record.getRequest(), REFERENCE);
        require(record.getScore() >= LOWEST_SCORE && record.getScore() <= HIGHEST_SCORE, "score is %s; wanted %s to %s",
                record.getScore(), LOWEST_SCORE, HIGHEST_SCORE);
        require(record.getStatus() != null, "status is null; wanted one of %s", Arrays.toString(Status.values()));
        Instant from = tx.getTimeWindow() == null ? null : tx.getTimeWindow().getFromTime();
        Instant earliest = record.getReportedAt().minus(CLOCK_TOLERANCE);
        require(from != null && !from.isBefore(earliest), "time window begins at %s; wanted %s or later, so that no report is dated ahead",
                from, earliest);
    }

    private static void follows(CreditRecord previous, CreditRecord record) {
        require(sameId(previous, record), "record is of %s; wanted %s as before", record.person(), previous.person());
        require(record.bank().equals(previous.bank()), "owner is %s; wanted %s as before", record.bank(), previous.bank());
        require(record.getVersion() == previous.getVersion() + 1, "version is %s; wanted %s", record.getVersion(),
                previous.getVersion() + 1);
        require(!record.getReportedAt().isBefore(previous.getReportedAt()), "report is of %s; wanted %s or later",
                record.getReportedAt(), previous.getReportedAt());
        // A party that is left out would regard the old version as current.
        for (Party party : previous.parties()) {
            require(record.parties().stream().anyMatch(p -> p.equals(party) && p.getName().equals(party.getName())),
                    "%s is left out; wanted all who had the record before", party.getName());
        }
    }

    /**
     * The owner and every reading bank sign, each by one of its identities. A bank that had the record before signs by an
     * identity that had it then, so that nobody can add an identity of another bank and sign as it.
     */
    private static void signed(List<PublicKey> signers, CreditRecord previous, CreditRecord record) {
        Set<CordaX500Name> before = CreditRecord.banksOf(previous.parties());
        for (CordaX500Name bank : CreditRecord.banksOf(record.parties())) {
            List<Party> identities = before.contains(bank) ? previous.parties() : record.parties();
            require(identities.stream().anyMatch(party -> CreditRecord.bankOf(party.getName()).equals(bank)
                    && signers.contains(party.getOwningKey())), "%s doesn't sign; wanted the owner and every reader", bank);
        }
    }

    private static void identified(LinearState state, CordaX500Name bank) {
        String person = state.getLinearId().getExternalId();
        require(matches(person), "person is %s; wanted %s", person, REFERENCE);
        require(state.getLinearId().equals(CreditRecord.idOf(bank, person)), "id is %s; wanted that of %s at %s",
                state.getLinearId(), person, bank);
    }

    /** Ids are equal in their random part alone, to Corda. */
    private static boolean sameId(LinearState one, LinearState other) {
        return one.getLinearId().equals(other.getLinearId())
                && one.getLinearId().getExternalId().equals(other.getLinearId().getExternalId());
    }

    private static boolean matches(String reference) {
        return reference != null && REFERENCE.matcher(reference).matches();
    }

    private static <T extends ContractState> T single(List<ContractState> states, Class<T> type, String what) {
        require(states.size() == 1 && type.isInstance(states.get(0)), "%s is %s; wanted one %s", what,
                states.stream().map(state -> state.getClass().getSimpleName()).collect(Collectors.toList()), type.getSimpleName());
        return type.cast(states.get(0));
    }

    private static void require(boolean met, String message, Object... values) {
        if (!met) {
            throw new IllegalArgumentException(String.format(message, values));
        }
    }
}
