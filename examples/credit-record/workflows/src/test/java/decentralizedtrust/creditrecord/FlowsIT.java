package decentralizedtrust.creditrecord;

import static org.assertj.core.api.Assertions.assertThat;

import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import decentralizedtrust.creditrecord.workflows.CountRecords;
import decentralizedtrust.creditrecord.workflows.CreateRecord;
import decentralizedtrust.creditrecord.workflows.ReadRecord;
import decentralizedtrust.creditrecord.workflows.RecordHistory;
import decentralizedtrust.creditrecord.workflows.Refusal;
import decentralizedtrust.creditrecord.workflows.ShareRecord;
import decentralizedtrust.creditrecord.workflows.Stage;
import decentralizedtrust.creditrecord.workflows.UpdateRecord;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.security.GeneralSecurityException;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.flows.FlowLogic;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.identity.PartyAndCertificate;
import net.corda.core.node.NodeInfo;
import net.corda.core.node.ServiceHub;
import net.corda.core.transactions.SignedTransaction;
import net.corda.core.transactions.TransactionBuilder;
import net.corda.core.utilities.ProgressTracker;
import net.corda.node.services.api.NetworkMapCacheInternal;
import net.corda.testing.common.internal.ParametersUtilitiesKt;
import net.corda.testing.core.TestIdentity;
import net.corda.testing.node.MockNetwork;
import net.corda.testing.node.MockNetworkParameters;
import net.corda.testing.node.StartedMockNode;
import net.corda.testing.node.TestCordapp;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.Test;

/** Three banks on the packaged jars: A and B with two nodes each, C with one. Each test has its own persons. */
public class FlowsIT {
    private static final CordaX500Name BANK_A = CordaX500Name.parse("O=Bank A, L=London, C=GB");
    private static final CordaX500Name BANK_B = CordaX500Name.parse("O=Bank B, L=Paris, C=FR");
    private static final CordaX500Name BANK_C = CordaX500Name.parse("O=Bank C, L=Oslo, C=NO");

    private static MockNetwork network;
    private static StartedMockNode a1;
    private static StartedMockNode a2;
    private static StartedMockNode b1;
    private static StartedMockNode b2;
    private static StartedMockNode c1;

    @BeforeClass
    public static void start() throws ClassNotFoundException {
        // Ready before Corda's test network switches its check of instrumentation on, which Quasar 0.8.0 fails on Corda's own classes.
        Class.forName("co.paralleluniverse.fibers.Fiber");
        network = new MockNetwork(new MockNetworkParameters(Arrays.asList(
                TestCordapp.findCordapp("decentralizedtrust.creditrecord.contracts"),
                TestCordapp.findCordapp("decentralizedtrust.creditrecord.workflows")))
                .withNetworkParameters(ParametersUtilitiesKt.testNetworkParameters(Collections.emptyList(), 12)));
        a1 = node("OU=node-1, O=Bank A, L=London, C=GB");
        a2 = node("OU=node-2, O=Bank A, L=London, C=GB");
        b1 = node("OU=node-1, O=Bank B, L=Paris, C=FR");
        b2 = node("OU=node-2, O=Bank B, L=Paris, C=FR");
        c1 = node("O=Bank C, L=Oslo, C=NO");
    }

    @AfterClass
    public static void stop() {
        network.stopNodes();
    }

    private static StartedMockNode node(String name) {
        return network.createPartyNode(CordaX500Name.parse(name));
    }

    private static Party party(StartedMockNode node) {
        return node.getInfo().getLegalIdentities().get(0);
    }

    private static <T> T answer(Future<T> flow) throws Exception {
        try {
            pumpUntil(flow::isDone, network::runNetwork);
            pumpUntil(FlowsIT::settled, network::runNetwork);
            return flow.get();
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
        }
    }

    /** Deliveries are started by other threads, so messages may come after all others were delivered. */
    private static void pumpUntil(BooleanSupplier condition, Runnable pump) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!condition.getAsBoolean()) {
            assertThat(System.nanoTime()).as("60 s").isLessThan(end);
            pump.run();
            Thread.sleep(5);
        }
    }

    private static boolean settled() {
        return Stream.of(a1, a2, b1, b2, c1).allMatch(node -> node.transaction(() -> {
            try (Statement statement = node.getServices().jdbcSession().createStatement();
                    ResultSet flows = statement.executeQuery("SELECT COUNT(*) FROM node_checkpoints")) {
                return flows.next() && flows.getInt(1) == 0;
            } catch (SQLException e) {
                throw new AssertionError(e);
            }
        }));
    }

    private static <T> T run(StartedMockNode node, FlowLogic<T> flow) throws Exception {
        return answer(node.startFlow(flow));
    }

    private static CreateRecord create(String person, int score, String request, CordaX500Name... readers) {
        return new CreateRecord(person, score, Status.CURRENT, Arrays.asList(readers), request);
    }

    private static UpdateRecord update(String person, int version, int score, String request) {
        return new UpdateRecord(person, version, score, Status.LATE, request);
    }

    private static CountRecords count(String prefix, CordaX500Name... with) {
        return new CountRecords(prefix, Arrays.asList(with));
    }

    private static CreditRecord data(StateAndRef<CreditRecord> state) {
        return state.getState().getData();
    }

    private static String refused(StartedMockNode node, FlowLogic<?> flow, boolean again) {
        try {
            run(node, flow);
        } catch (Refusal e) {
            assertThat(e.isRetryable()).as(e.getMessage()).isEqualTo(again);
            return e.getMessage();
        } catch (Exception e) {
            throw new AssertionError(e);
        }
        throw new AssertionError("was not refused");
    }

    @Test
    public void aNewRecordReachesEveryNodeOfBothBanks() throws Exception {
        StateAndRef<CreditRecord> created = run(a1, create("every", 700, "r-1", BANK_B));
        assertThat(data(created).getOwners()).containsExactly(party(a1), party(a2));
        assertThat(data(created).getReaders()).containsExactly(party(b1), party(b2));
        for (StartedMockNode node : Arrays.asList(a1, a2, b1, b2)) {
            assertThat(run(node, new ReadRecord(BANK_A, "every")).getRef()).isEqualTo(created.getRef());
        }
        assertThat(refused(c1, new ReadRecord(BANK_A, "every"), false)).contains("this node has no record of every by O=Bank A");
    }

    @Test
    public void anyNodeOfTheOwnerUpdates() throws Exception {
        run(a1, create("any", 700, "r-1", BANK_B));
        StateAndRef<CreditRecord> updated = run(a2, update("any", 1, 640, "r-2"));
        assertThat(data(updated).getVersion()).isEqualTo(2);
        assertThat(data(run(a1, update("any", 2, 620, "r-3"))).getVersion()).isEqualTo(3);
        List<StateAndRef<CreditRecord>> history = run(b2, new RecordHistory(party(a1).getName(), "any"));
        assertThat(history.stream().map(state -> data(state).getScore()).collect(Collectors.toList())).containsExactly(700, 640, 620);
        assertThat(history.get(1).getRef()).isEqualTo(updated.getRef());
    }

    @Test
    public void theAnswerDoesNotWaitForUnavailableNodes() throws Exception {
        List<StartedMockNode> there = Arrays.asList(a1, b1, network.getDefaultNotaryNode());
        Runnable pump = () -> there.forEach(node -> node.pumpReceive(false));
        Future<StateAndRef<CreditRecord>> created = a1.startFlow(create("away", 700, "r-1", BANK_B));
        pumpUntil(created::isDone, pump);
        Future<StateAndRef<CreditRecord>> updated = a1.startFlow(update("away", 1, 640, "r-2"));
        pumpUntil(updated::isDone, pump);
        assertThat(data(updated.get()).getVersion()).isEqualTo(2);
        pumpUntil(FlowsIT::settled, network::runNetwork);
        for (StartedMockNode node : Arrays.asList(a2, b2)) {
            assertThat(run(node, new ReadRecord(BANK_A, "away")).getRef()).isEqualTo(updated.get().getRef());
            assertThat(run(node, count("away")).getDoubled()).isZero();
        }
    }

    @Test
    public void aVersionThatIsDeliveredTwiceIsRecordedOnce() throws Exception {
        run(a1, create("again", 700, "r-1", BANK_B));
        StateAndRef<CreditRecord> current = run(a1, update("again", 1, 640, "r-2"));
        for (StateAndRef<CreditRecord> version : run(a1, new RecordHistory(BANK_A, "again"))) {
            run(a1, delivery(party(b2), transaction(a1, version)));
        }
        assertThat(run(b2, new ReadRecord(BANK_A, "again")).getRef()).isEqualTo(current.getRef());
        assertThat(run(b2, count("again")).getRecords()).isEqualTo(1);
    }

    private static FlowLogic<?> delivery(Party party, SignedTransaction committed) throws ReflectiveOperationException {
        Constructor<?> delivery = Class.forName("decentralizedtrust.creditrecord.workflows.DeliverRecord")
                .getDeclaredConstructor(Party.class, SignedTransaction.class);
        delivery.setAccessible(true);
        return (FlowLogic<?>) delivery.newInstance(party, committed);
    }

    @Test
    public void aBankThatBecomesAReaderLaterHasTheHistory() throws Exception {
        run(a1, create("later", 700, "r-1", BANK_B));
        run(a1, update("later", 1, 640, "r-2"));
        StateAndRef<CreditRecord> shared = run(a2, new ShareRecord("later", BANK_C, "r-3"));
        assertThat(data(shared).getVersion()).isEqualTo(3);
        assertThat(run(c1, new RecordHistory(BANK_A, "later"))).hasSize(3);
        assertThat(run(a1, new ShareRecord("later", BANK_C, "r-3")).getRef()).isEqualTo(shared.getRef());
        assertThat(run(a1, new ShareRecord("later", BANK_A, "r-4")).getRef()).isEqualTo(shared.getRef());
        run(a1, update("later", 3, 630, "r-5"));
        assertThat(data(run(c1, new ReadRecord(BANK_A, "later"))).getScore()).isEqualTo(630);
    }

    @Test
    public void aRepeatedRequestReturnsTheExistingVersion() throws Exception {
        StateAndRef<CreditRecord> created = run(a1, create("repeated", 700, "r-1", BANK_B));
        StateAndRef<CreditRecord> updated = run(a1, update("repeated", 1, 640, "r-2"));
        run(a1, update("repeated", 2, 620, "r-3"));
        for (StartedMockNode node : Arrays.asList(a1, a2)) {
            assertThat(run(node, create("repeated", 700, "r-1", BANK_B)).getRef()).isEqualTo(created.getRef());
            assertThat(run(node, update("repeated", 1, 640, "r-2")).getRef()).isEqualTo(updated.getRef());
        }
        assertThat(refused(a2, create("repeated", 700, "r-9"), false)).contains("was made by request r-1, not by r-9");
        assertThat(refused(a2, create("repeated", 700, "r-1", BANK_B, BANK_C), false)).contains("wanted ShareRecord for a further bank");
        assertThat(refused(a2, update("repeated", 1, 500, "r-9"), false)).contains("was made by request r-2, not by r-9");
        assertThat(refused(a2, update("repeated", 1, 500, "r-2"), false)).contains("wanted another reference for each report");
        assertThat(run(b1, new RecordHistory(BANK_A, "repeated"))).hasSize(3);
    }

    @Test
    public void ofTwoConcurrentCreationsOneIsCommitted() throws Exception {
        List<Future<StateAndRef<CreditRecord>>> attempts = Arrays.asList(
                a1.startFlow(create("at-once", 700, "r-1", BANK_B)), a2.startFlow(create("at-once", 700, "r-1", BANK_B)),
                a1.startFlow(create("at-once", 700, "r-1", BANK_B)), a2.startFlow(create("at-once", 710, "r-2", BANK_B)));
        pumpUntil(() -> attempts.stream().allMatch(Future::isDone) && settled(), network::runNetwork);
        List<StateAndRef<CreditRecord>> committed = new ArrayList<>();
        for (Future<StateAndRef<CreditRecord>> attempt : attempts) {
            try {
                committed.add(attempt.get());
            } catch (ExecutionException e) {
                assertThat(e.getCause()).isInstanceOf(Refusal.class);
                assertThat(((Refusal) e.getCause()).isRetryable()).as(e.getMessage()).isTrue();
            }
        }
        assertThat(committed).hasSize(1);
        for (StartedMockNode node : Arrays.asList(a1, a2, b1, b2)) {
            assertThat(run(node, new ReadRecord(BANK_A, "at-once")).getRef()).isEqualTo(committed.get(0).getRef());
            assertThat(run(node, count("at-once")).getRecords()).isEqualTo(1);
        }
    }

    @Test
    public void ofTwoConcurrentUpdatesOneIsCommitted() throws Exception {
        run(a1, create("race", 700, "r-1", BANK_B));
        Future<StateAndRef<CreditRecord>> one = a1.startFlow(update("race", 1, 640, "r-2"));
        Future<StateAndRef<CreditRecord>> other = a2.startFlow(update("race", 1, 640, "r-2"));
        pumpUntil(() -> one.isDone() && other.isDone() && settled(), network::runNetwork);
        int refusals = 0;
        for (Future<StateAndRef<CreditRecord>> attempt : Arrays.asList(one, other)) {
            try {
                attempt.get();
            } catch (ExecutionException e) {
                assertThat(e.getCause()).hasMessageContaining("another change came before version 2 of race");
                refusals++;
            }
        }
        assertThat(refusals).isEqualTo(1);
        StateAndRef<CreditRecord> again = run(a1, update("race", 1, 640, "r-2"));
        assertThat(run(a2, update("race", 1, 640, "r-2")).getRef()).isEqualTo(again.getRef());
        assertThat(run(b2, new RecordHistory(BANK_A, "race"))).hasSize(2);
    }

    @Test
    public void everyRefusalSaysWhatIsWanted() throws Exception {
        run(a1, create("refused", 700, "r-1", BANK_B));
        assertThat(refused(a1, create("refused-2", 851, "r-1"), false)).isEqualTo("score is 851; wanted 300 to 850");
        assertThat(refused(a1, create("two words", 700, "r-1"), false)).contains("person is two words; wanted");
        assertThat(refused(a1, create("refused-2", 700, "r-1", CordaX500Name.parse("O=Bank X, L=Rome, C=IT")), false))
                .isEqualTo("O=Bank X, L=Rome, C=IT has no node in the network map; wanted a member of the network");
        assertThat(refused(b1, update("refused", 1, 640, "r-2"), true)).contains("has no record of refused yet");
        assertThat(refused(a1, update("refused", 2, 640, "r-2"), true)).contains("has come to this node; wanted version 2; ask again");
        assertThat(refused(a1, update("refused", 0, 640, "r-2"), false)).isEqualTo("version is 0; wanted 1 or more");
        assertThat(refused(a1, update("refused", 1, 100, "r-2"), false)).isEqualTo("score is 100; wanted 300 to 850");
        assertThat(run(b1, new RecordHistory(BANK_A, "refused"))).hasSize(1);
    }

    @Test
    public void nodesOfBothBanksCountTheSameRecords() throws Exception {
        run(a1, create("count-1", 700, "r-1", BANK_B));
        run(a2, create("count-2", 710, "r-1", BANK_B, BANK_C));
        run(a2, create("count-3", 720, "r-1"));
        run(a1, update("count-1", 1, 640, "r-2"));
        assertThat(run(a1, count("count-")).getRecords()).isEqualTo(3);
        assertThat(run(a1, count("count-")).getVersions()).isEqualTo(4);
        assertThat(run(a1, count("count-")).getDigest()).isEqualTo(run(a2, count("count-")).getDigest());
        assertThat(run(b1, count("count-")).getRecords()).isEqualTo(2);
        assertThat(run(b1, count("count-")).getDigest())
                .isEqualTo(run(a1, count("count-", BANK_B)).getDigest())
                .isNotEqualTo(run(a1, count("count-", BANK_C)).getDigest());
        assertThat(run(c1, count("count-")).getDigest()).isEqualTo(run(a2, count("count-", BANK_C)).getDigest());
    }

    /** Records keep the old key as a party, and no change waits for it. */
    @Test
    public void aReplacedKeyDelaysNoOtherIdentity() throws Exception {
        PartyAndCertificate former = new TestIdentity(party(b2).getName()).getIdentity();
        for (StartedMockNode node : Arrays.asList(a1, a2, b1)) {
            node.transaction(() -> {
                try {
                    return node.getServices().getIdentityService().verifyAndRegisterIdentity(former);
                } catch (GeneralSecurityException e) {
                    throw new AssertionError(e);
                }
            });
        }
        List<Party> owners = Arrays.asList(party(a1), party(a2));
        StateAndRef<?> created = (StateAndRef<?>) run(a1, commit(a1, "rotated", owners, former.getParty(), party(b1)));
        assertThat(run(b1, new ReadRecord(BANK_A, "rotated")).getRef()).isEqualTo(created.getRef());
        StateAndRef<CreditRecord> updated = run(a2, update("rotated", 1, 640, "r-2"));
        assertThat(run(b1, new ReadRecord(BANK_A, "rotated")).getRef()).isEqualTo(updated.getRef());
        assertThat(refused(a1, commit(a1, "rotated-alone", owners, former.getParty()), false))
                .isEqualTo("no identity of O=Bank B, L=Paris, C=FR in version 1 of rotated-alone at O=Bank A, L=London, C=GB "
                        + "is in the network map by its key there; wanted one to sign");
    }

    /** Otherwise the thief of a replaced key could sign in the bank's name. */
    @Test
    public void aReplacedKeyCannotSign() throws Exception {
        withAnotherKey(c1, b1, () -> assertThat(refused(a1, create("stolen", 700, "r-1", BANK_B, BANK_C), true))
                .contains("OU=node-1, O=Bank B, L=Paris, C=FR signs by a key that it had before"));
        StateAndRef<CreditRecord> created = withAnotherKey(a2, b1, () -> run(a1, create("stolen", 700, "r-1", BANK_B, BANK_C)));
        assertThat(run(a2, new ReadRecord(BANK_A, "stolen")).getRef()).as("signed before the key was replaced, and delivered later").isEqualTo(created.getRef());
    }

    @Test
    public void aBankThatLeftTheNetworkMapDelaysNoOtherBank() throws Exception {
        StateAndRef<CreditRecord> created = without(c1, b1, () -> run(a1, create("forgotten", 700, "r-1", BANK_B, BANK_C)));
        assertThat(run(c1, new ReadRecord(BANK_A, "forgotten")).getRef()).isEqualTo(created.getRef());
    }

    /** The vault stores such a state with another record's history, or from another CorDapp's flow, which check no keys. */
    @Test
    public void aRecordWithAnotherBanksKeyIsNoRecordOfTheNamedBank() throws Exception {
        StateAndRef<CreditRecord> created = run(a1, create("vault", 700, "r-1", BANK_B));
        List<Party> forged = Collections.singletonList(new Party(party(a1).getName(), party(c1).getOwningKey()));
        CreditRecord record = new CreditRecord(CreditRecord.idOf(BANK_A, "vault"), forged, Collections.singletonList(party(b1)), 300,
                Status.DEFAULTED, 1, Instant.now(), "r-1");
        TransactionBuilder builder = new TransactionBuilder(party(network.getDefaultNotaryNode()))
                .addOutputState(record)
                .addCommand(new Commands.Create(), party(c1).getOwningKey());
        SignedTransaction transaction = c1.transaction(() -> c1.getServices().signInitialTransaction(builder));
        b1.transaction(() -> {
            b1.getServices().recordTransactions(transaction);
            return null;
        });
        assertThat(b1.transaction(() -> b1.getServices().getVaultService().queryBy(CreditRecord.class).getStates()).stream()
                .map(FlowsIT::data).filter(each -> each.person().equals("vault")).count()).as("the vault has both").isEqualTo(2);
        assertThat(run(b1, new ReadRecord(BANK_A, "vault")).getRef()).isEqualTo(created.getRef());
        assertThat(run(b1, count("vault")).getRecords()).isEqualTo(1);
        assertThat(data(run(a1, update("vault", 1, 640, "r-2"))).getVersion()).as("the real record can be updated").isEqualTo(2);
    }

    @Test
    public void anIdentityAddedLaterDoesNotSignYet() throws Exception {
        List<Party> owners = Arrays.asList(party(a1), party(a2));
        run(a1, commit(a1, "since", owners, party(b2)));
        without(a1, b2, () -> assertThat(refused(a1, update("since", 1, 640, "r-2"), false))
                .isEqualTo("no identity of O=Bank B, L=Paris, C=FR in version 1 of since at O=Bank A, L=London, C=GB "
                        + "is in the network map by its key there; wanted one to sign"));
        StateAndRef<CreditRecord> updated = run(a1, update("since", 1, 640, "r-2"));
        assertThat(data(updated).getReaders()).containsExactly(party(b2), party(b1));
        assertThat(transaction(a1, updated).getRequiredSigningKeys())
                .contains(party(b2).getOwningKey())
                .doesNotContain(party(b1).getOwningKey());
        assertThat(run(b1, new RecordHistory(BANK_A, "since"))).hasSize(2);
    }

    /** Repeating it would be refused forever. */
    @Test
    public void aPermanentlyRefusedDeliveryEnds() throws Exception {
        StateAndRef<CreditRecord> created = run(a1, create("for-good", 700, "r-1", BANK_C));
        run(c1, delivery(party(b1), transaction(c1, created)));
        assertThat(refused(b1, new ReadRecord(BANK_A, "for-good"), false)).contains("this node has no record of for-good");
    }

    private static SignedTransaction transaction(StartedMockNode node, StateAndRef<?> made) {
        return node.getServices().getValidatedTransactions().getTransaction(made.getRef().getTxhash());
    }

    /** Runs while a node's network map lacks the other node. */
    private static <T> T without(StartedMockNode node, StartedMockNode other, Callable<T> act) throws Exception {
        NetworkMapCacheInternal map = (NetworkMapCacheInternal) node.getServices().getNetworkMapCache();
        map.removeNode(other.getInfo());
        try {
            return act.call();
        } finally {
            map.addOrUpdateNode(other.getInfo());
        }
    }

    /** Runs while a node's network map has another key of the other node. */
    private static <T> T withAnotherKey(StartedMockNode node, StartedMockNode other, Callable<T> act) throws Exception {
        NodeInfo info = other.getInfo();
        NetworkMapCacheInternal map = (NetworkMapCacheInternal) node.getServices().getNetworkMapCache();
        map.addOrUpdateNode(new NodeInfo(info.getAddresses(),
                Collections.singletonList(new TestIdentity(party(other).getName()).getIdentity()), info.getPlatformVersion(),
                info.getSerial() + 1));
        try {
            return act.call();
        } finally {
            map.addOrUpdateNode(new NodeInfo(info.getAddresses(), info.getLegalIdentitiesAndCerts(), info.getPlatformVersion(),
                    info.getSerial() + 2));
        }
    }

    /** Tested as from a node that runs other flows. */
    @Test
    public void aBankCannotReportAsAnotherBank() {
        Party forged = new Party(CordaX500Name.parse("OU=node-9, O=Bank A, L=London, C=GB"), party(c1).getOwningKey());
        assertThat(refused(c1, commit(c1, "forged", Collections.singletonList(forged), party(b1), party(b2)), false))
                .isEqualTo("O=Bank C, L=Oslo, C=NO reports version 1 of forged at O=Bank A, L=London, C=GB; wanted one of its owner's nodes");
        Party renamed = new Party(party(a2).getName(), party(c1).getOwningKey());
        for (Party other : Arrays.asList(forged, renamed)) {
            assertThat(refused(a1, commit(a1, "forged", Arrays.asList(party(a1), other), party(b1), party(b2)), true))
                    .contains(other.getName() + " is not known at OU=node-1, O=Bank B, L=Paris, C=FR by the key");
        }
    }

    private static FlowLogic<?> commit(StartedMockNode node, String person, List<Party> owners, Party... readers) {
        UniqueIdentifier id = CreditRecord.idOf(BANK_A, person);
        try {
            Method opening = Class.forName("decentralizedtrust.creditrecord.workflows.Ledger").getDeclaredMethod("opening",
                    ServiceHub.class, UniqueIdentifier.class, CordaX500Name.class);
            opening.setAccessible(true);
            Constructor<?> commit = Class.forName("decentralizedtrust.creditrecord.workflows.CommitRecord")
                    .getDeclaredConstructor(StateAndRef.class, Commands.class, CreditRecord.class, ProgressTracker.class);
            commit.setAccessible(true);
            Method tracker = Stage.class.getDeclaredMethod("tracker");
            tracker.setAccessible(true);
            CreditRecord record = new CreditRecord(id, owners, Arrays.asList(readers), 700, Status.CURRENT, 1,
                    Instant.now(), "r-1");
            Object input = node.transaction(() -> {
                try {
                    return opening.invoke(null, node.getServices(), id, BANK_A);
                } catch (ReflectiveOperationException e) {
                    throw new AssertionError(e);
                }
            });
            return (FlowLogic<?>) commit.newInstance(input, new Commands.Create(), record, tracker.invoke(null));
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
    }
}
