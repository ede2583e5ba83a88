package decentralizedtrust.creditrecord.contracts;

import static net.corda.testing.node.NodeTestUtils.ledger;

import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import java.security.PublicKey;
import java.time.Instant;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import net.corda.core.contracts.ContractState;
import net.corda.core.contracts.TimeWindow;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.testing.common.internal.ParametersUtilitiesKt;
import net.corda.testing.core.TestIdentity;
import net.corda.testing.node.MockServices;
import org.junit.Test;

public class CreditRecordContractTest {
    private static final String ID = CreditRecordContract.class.getName();
    private static final Instant NOW = Instant.parse("2024-05-01T12:00:00Z");

    private static final Party A1 = party("OU=node-1, O=Bank A, L=London, C=GB");
    private static final Party A2 = party("OU=node-2, O=Bank A, L=London, C=GB");
    private static final Party B1 = party("OU=node-1, O=Bank B, L=Paris, C=FR");
    private static final Party B2 = party("OU=node-2, O=Bank B, L=Paris, C=FR");
    private static final Party C1 = party("O=Bank C, L=Oslo, C=NO");
    private static final CordaX500Name BANK_A = CreditRecord.bankOf(A1.getName());
    private static final UniqueIdentifier PERSON = CreditRecord.idOf(BANK_A, "p-1");
    private static final Opening OPENING = new Opening(PERSON, BANK_A);

    private final MockServices services = new MockServices(
            Collections.singletonList("decentralizedtrust.creditrecord.contracts"), new TestIdentity(A1.getName()),
            ParametersUtilitiesKt.testNetworkParameters(Collections.emptyList(), 4));

    private static Party party(String name) {
        return new TestIdentity(CordaX500Name.parse(name)).getParty();
    }

    /** A record that is right; each test changes what it is about. */
    private static final class Report {
        UniqueIdentifier id = PERSON;
        List<Party> owners = Arrays.asList(A1, A2);
        List<Party> readers = Arrays.asList(B1, B2);
        int score = 700;
        Status status = Status.CURRENT;
        int version = 1;
        Instant reportedAt = NOW;
        String request = "r-1";

        static Report first() {
            return new Report();
        }

        static Report second() {
            Report report = new Report();
            report.version = 2;
            report.score = 650;
            report.request = "r-2";
            return report;
        }

        CreditRecord record() {
            return new CreditRecord(id, owners, readers, score, status, version, reportedAt, request);
        }
    }

    private void check(ContractState input, ContractState output, Commands command, TimeWindow window, String refusal,
            Party... signers) {
        List<PublicKey> keys = Stream.of(signers).map(Party::getOwningKey).collect(Collectors.toList());
        ledger(services, ledger -> {
            ledger.transaction(tx -> {
                if (input != null) {
                    tx.input(ID, input);
                }
                tx.output(ID, output);
                tx.command(keys, command);
                if (window != null) {
                    tx.timeWindow(window);
                }
                return refusal == null ? tx.verifies() : tx.failsWith(refusal);
            });
            return null;
        });
    }

    private void create(Report report, String refusal, Party... signers) {
        check(OPENING, report.record(), new Commands.Create(), TimeWindow.fromOnly(NOW), refusal, signers);
    }

    private void update(Report report, String refusal, Party... signers) {
        check(Report.first().record(), report.record(), new Commands.Update(), TimeWindow.fromOnly(NOW), refusal, signers);
    }

    @Test
    public void anOpeningIsMadeOnce() {
        check(null, OPENING, new Commands.Open(), null, null, C1);
        check(OPENING, OPENING, new Commands.Open(), null, "an opening has 1 inputs; wanted none", A1);
        check(null, new Opening(CreditRecord.idOf(BANK_A, "p-2"), CreditRecord.bankOf(C1.getName())), new Commands.Open(), null,
                "wanted that of p-2 at O=Bank C", A1);
        check(null, new Opening(CreditRecord.idOf(A1.getName(), "p-1"), A1.getName()), new Commands.Open(), null,
                "wanted a name without CN and OU", A1);
        check(null, Report.first().record(), new Commands.Open(), null, "wanted one Opening", A1);
    }

    /** A bank's nodes take in all that a transaction refers to. */
    @Test
    public void referenceInputsAreRefused() {
        ledger(services, ledger -> {
            ledger.transaction(tx -> {
                tx.reference(ID, Report.first().record());
                tx.output(ID, OPENING);
                tx.command(A1.getOwningKey(), new Commands.Open());
                return tx.failsWith("1 states are referred to; wanted none");
            });
            return null;
        });
    }

    @Test
    public void anyNodeOfTheOwnerCreates() {
        create(Report.first(), null, A1, B1);
        create(Report.first(), null, A2, B2);
    }

    @Test
    public void aRecordNeedsNoReader() {
        Report report = Report.first();
        report.readers = Collections.emptyList();
        create(report, null, A1);
    }

    @Test
    public void ownerAndReadersSign() {
        create(Report.first(), "O=Bank A, L=London, C=GB doesn't sign", B1);
        create(Report.first(), "O=Bank B, L=Paris, C=FR doesn't sign", A1, A2);
        update(Report.second(), "O=Bank A, L=London, C=GB doesn't sign", B1, B2);
        update(Report.second(), "O=Bank B, L=Paris, C=FR doesn't sign", A1, C1);
    }

    @Test
    public void aRecordBeginsWithItsOpening() {
        check(null, Report.first().record(), new Commands.Create(), TimeWindow.fromOnly(NOW), "input is []; wanted one Opening", A1, B1);
        check(new Opening(CreditRecord.idOf(BANK_A, "p-2"), BANK_A), Report.first().record(), new Commands.Create(),
                TimeWindow.fromOnly(NOW), "opening is of another record", A1, B1);
        check(OPENING, Report.first().record(), new Commands.Update(), TimeWindow.fromOnly(NOW), "wanted one CreditRecord", A1, B1);
        Report report = Report.first();
        report.version = 2;
        create(report, "version is 2; wanted 1", A1, B1);
    }

    @Test
    public void aStatusIsRequired() {
        Report report = Report.first();
        report.status = null;
        create(report, "status is null; wanted one of [CURRENT, LATE, DEFAULTED]", A1, B1);
    }

    @Test
    public void scoreIsInRange() {
        for (int score : new int[] {300, 850}) {
            Report report = Report.first();
            report.score = score;
            create(report, null, A1, B1);
        }
        for (int score : new int[] {Integer.MIN_VALUE, 299, 851, Integer.MAX_VALUE}) {
            Report report = Report.first();
            report.score = score;
            create(report, "score is " + score + "; wanted 300 to 850", A1, B1);
        }
    }

    @Test
    public void theIdFollowsFromBankAndPerson() {
        UniqueIdentifier ofBankB = CreditRecord.idOf(CreditRecord.bankOf(B1.getName()), "p-1");
        for (UniqueIdentifier id : Arrays.asList(new UniqueIdentifier("p-1"), ofBankB)) {
            Report report = Report.first();
            report.id = id;
            create(report, "wanted that of p-1 at O=Bank A", A1, B1);
        }
        for (String person : Arrays.asList("", "a name with blanks", String.join("", Collections.nCopies(65, "x")))) {
            Report report = Report.first();
            report.id = CreditRecord.idOf(BANK_A, person);
            create(report, "person is " + person + "; wanted", A1, B1);
        }
    }

    @Test
    public void partiesBelongToTheirBanks() {
        Report report = Report.first();
        report.owners = Arrays.asList(A1, C1);
        create(report, "wanted identities of one bank", A1, B1);
        report = Report.first();
        report.owners = Collections.emptyList();
        create(report, "wanted identities of one bank", A1, B1);
        report = Report.first();
        report.readers = Arrays.asList(B1, A2);
        create(report, "wanted other banks than O=Bank A", A1, B1);
        report = Report.first();
        report.readers = Arrays.asList(B1, party(B1.getName().toString()));
        create(report, "wanted each name and each key once", A1, B1);
        report = Report.first();
        report.readers = Arrays.asList(B1, new Party(B2.getName(), B1.getOwningKey()));
        create(report, "wanted each name and each key once", A1, B1);
    }

    @Test
    public void noBankLooksLikeAnother() {
        Party lookAlike = party("OU=node-1, O=Bank \u0410, L=London, C=GB");
        Report report = Report.first();
        report.readers = Arrays.asList(B1, lookAlike);
        create(report, "wanted names in printable basic Latin", A1, B1, lookAlike);
        CordaX500Name bank = CreditRecord.bankOf(lookAlike.getName());
        check(null, new Opening(CreditRecord.idOf(bank, "p-1"), bank), new Commands.Open(), null,
                "wanted a name in printable basic Latin", lookAlike);
        Party capitals = party("OU=node-3, O=BANK A, L=London, C=GB");
        report = Report.first();
        report.readers = Arrays.asList(B1, capitals);
        create(report, "wanted names that differ in more than case", A1, B1, capitals);
    }

    @Test
    public void requestIsAReference() {
        for (String request : Arrays.asList("", "two words")) {
            Report report = Report.first();
            report.request = request;
            create(report, "request is " + request + "; wanted", A1, B1);
        }
    }

    @Test
    public void noReportIsDatedAhead() {
        CreditRecord record = Report.first().record();
        check(OPENING, record, new Commands.Create(), TimeWindow.fromOnly(NOW.minusSeconds(30)), null, A1, B1);
        check(OPENING, record, new Commands.Create(), TimeWindow.fromOnly(NOW.minusSeconds(31)), "time window begins at", A1, B1);
        check(OPENING, record, new Commands.Create(), TimeWindow.untilOnly(NOW), "time window begins at null", A1, B1);
        check(OPENING, record, new Commands.Create(), null, "time window begins at null", A1, B1);
    }

    @Test
    public void anyNodeOfTheOwnerUpdates() {
        update(Report.second(), null, A1, B1);
        update(Report.second(), null, A2, B2);
    }

    @Test
    public void versionGoesUpByOne() {
        for (int version : new int[] {0, 1, 3}) {
            Report report = Report.second();
            report.version = version;
            update(report, "version is " + version + "; wanted 2", A1, B1);
        }
    }

    @Test
    public void timeDoesNotGoBackward() {
        Report report = Report.second();
        report.reportedAt = NOW.minusMillis(1);
        update(report, "report is of 2024-05-01T11:59:59.999Z; wanted 2024-05-01T12:00:00Z or later", A1, B1);
    }

    @Test
    public void anUpdateKeepsPersonAndOwner() {
        Report report = Report.second();
        report.id = CreditRecord.idOf(BANK_A, "p-2");
        update(report, "record is of p-2; wanted p-1 as before", A1, B1);
        report = Report.second();
        report.owners = Collections.singletonList(C1);
        report.id = CreditRecord.idOf(C1.getName(), "p-1");
        update(report, "record is of p-1; wanted p-1 as before", A1, B1, C1);
    }

    @Test
    public void anUpdateKeepsEveryParty() {
        Report report = Report.second();
        report.readers = Collections.singletonList(B1);
        update(report, "OU=node-2, O=Bank B, L=Paris, C=FR is left out", A1, B1);
        report = Report.second();
        report.owners = Collections.singletonList(A1);
        update(report, "OU=node-2, O=Bank A, L=London, C=GB is left out", A1, B1);
        report = Report.second();
        report.owners = Arrays.asList(new Party(A2.getName(), A1.getOwningKey()), new Party(A1.getName(), A2.getOwningKey()));
        update(report, "is left out", A1, B1);
    }

    @Test
    public void sharingIsAnUpdateThatTheNewReaderSigns() {
        Report report = Report.second();
        report.readers = Arrays.asList(B1, B2, C1);
        update(report, null, A1, B1, C1);
        update(report, "O=Bank C, L=Oslo, C=NO doesn't sign", A1, B1);
    }

    @Test
    public void nobodySignsAsAnIdentityThatItAdds() {
        Party forged = party("OU=node-3, O=Bank A, L=London, C=GB");
        Report report = Report.second();
        report.owners = Arrays.asList(A1, A2, forged);
        update(report, "O=Bank A, L=London, C=GB doesn't sign", forged, B1);
        update(report, null, A1, B1);
        forged = party("OU=node-3, O=Bank B, L=Paris, C=FR");
        report = Report.second();
        report.readers = Arrays.asList(B1, B2, forged);
        update(report, "O=Bank B, L=Paris, C=FR doesn't sign", A1, forged);
    }
}
