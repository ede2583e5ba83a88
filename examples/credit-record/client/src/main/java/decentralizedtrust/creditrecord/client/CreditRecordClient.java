package decentralizedtrust.creditrecord.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import decentralizedtrust.creditrecord.client.Connection.Progress;
import decentralizedtrust.creditrecord.client.Connection.Unanswered;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.workflows.CountRecords;
import decentralizedtrust.creditrecord.workflows.CreateRecord;
import decentralizedtrust.creditrecord.workflows.ReadRecord;
import decentralizedtrust.creditrecord.workflows.RecordCount;
import decentralizedtrust.creditrecord.workflows.RecordHistory;
import decentralizedtrust.creditrecord.workflows.Refusal;
import decentralizedtrust.creditrecord.workflows.ShareRecord;
import decentralizedtrust.creditrecord.workflows.Stage;
import decentralizedtrust.creditrecord.workflows.UpdateRecord;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.messaging.ClientRpcSslOptions;
import net.corda.core.utilities.NetworkHostAndPort;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

/**
 * A bank's application server as a command: the owner creates, updates and shares records, a reader reads them.
 * Answers are JSON lines on stdout; anything else is one line on stderr.
 */
@Command(name = "credit-record", synopsisSubcommandLabel = "COMMAND",
        description = "Credit records between banks, through a node's RPC.",
        footer = {"", "Exit codes: 0 done, 2 wrong usage, 3 permanently refused, 4 no answer in time: repeat it with the same --request."})
public final class CreditRecordClient {
    private static final int USAGE = 2;
    private static final int REFUSED = 3;
    private static final int UNANSWERED = 4;
    private static final String PASSWORD = "CREDIT_RECORD_PASSWORD";
    private static final String TRUST_STORE_PASSWORD = "CREDIT_RECORD_TRUST_STORE_PASSWORD";
    private static final ObjectMapper JSON = new ObjectMapper();

    @Option(names = "--help", usageHelp = true, scope = ScopeType.INHERIT, description = "The options of a command.")
    private boolean help;

    /** Options of the connection. */
    static final class Node {
        @Option(names = "--node", required = true, paramLabel = "HOST:PORT",
                description = "RPC address of a node or of a bank's balancer.")
        NetworkHostAndPort address;

        @Option(names = "--user", required = true, description = "RPC user; the password is read from " + PASSWORD + ".")
        String user;

        @Option(names = "--trust-store", paramLabel = "FILE",
                description = "JKS with the CA of the RPC server; its password is read from " + TRUST_STORE_PASSWORD + ". Without it: no TLS.")
        Path trustStore;

        @Option(names = "--timeout", defaultValue = "30", paramLabel = "SECONDS",
                description = "For one attempt; default ${DEFAULT-VALUE}.")
        int timeout;

        @Option(names = "--deadline", defaultValue = "120", paramLabel = "SECONDS",
                description = "How long a request is repeated; default ${DEFAULT-VALUE}.")
        int deadline;

        @Option(names = "--progress", description = "Also print the node that received the request, and each stage of a change.")
        boolean progress;

        Connection connection() {
            ClientRpcSslOptions tls = null;
            if (trustStore != null) {
                if (!Files.isReadable(trustStore)) {
                    throw new IllegalArgumentException("--trust-store is " + trustStore + "; wanted a file that can be read");
                }
                tls = new ClientRpcSslOptions(trustStore, environment(TRUST_STORE_PASSWORD), "JKS");
            }
            return new Connection(address, tls, user, environment(PASSWORD), Duration.ofSeconds(timeout), Duration.ofSeconds(deadline),
                    progress ? new PrintedProgress() : null);
        }

        private static String environment(String name) {
            String value = System.getenv(name);
            if (value == null || value.isEmpty()) {
                throw new IllegalArgumentException("environment variable " + name + " is not set; wanted a password");
            }
            return value;
        }
    }

    /** Milliseconds are those since the node took the request, by this program's clock. */
    private static final class PrintedProgress implements Progress {
        private long taken;

        @Override
        public void taken(CordaX500Name node) {
            taken = System.nanoTime();
            printLine("node", node.toString());
        }

        @Override
        public void at(Stage stage) {
            printLine("stage", stage.toString());
        }

        private void printLine(String name, String value) {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put(name, value);
            line.put("millis", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - taken));
            print(line);
        }
    }

    @Command(description = "The first report of a person, by the node's own bank.")
    int create(@Mixin Node node,
            @Option(names = "--person", required = true, description = "The bank's own, opaque reference.") String person,
            @Option(names = "--score", required = true, description = "300 to 850.") int score,
            @Option(names = "--status", defaultValue = "CURRENT", description = "${COMPLETION-CANDIDATES}") Status status,
            @Option(names = "--with", paramLabel = "BANK",
                    description = "A bank to share it with; may be repeated.") List<CordaX500Name> readers,
            @Option(names = "--request", required = true,
                    description = "The application's reference of this change.") String request)
            throws Exception {
        try (Connection connection = node.connection()) {
            return print(connection.answer(CreateRecord.class, person, score, status, list(readers), request));
        }
    }

    @Command(description = "A new score for a record of the node's own bank.")
    int update(@Mixin Node node,
            @Option(names = "--person", required = true, description = "The bank's own, opaque reference.") String person,
            @Option(names = "--version", required = true, description = "The version on which the score is based.") int version,
            @Option(names = "--score", required = true, description = "300 to 850.") int score,
            @Option(names = "--status", defaultValue = "CURRENT", description = "${COMPLETION-CANDIDATES}") Status status,
            @Option(names = "--request", required = true,
                    description = "The application's reference of this change.") String request)
            throws Exception {
        try (Connection connection = node.connection()) {
            return print(connection.answer(UpdateRecord.class, person, version, score, status, request));
        }
    }

    @Command(description = "Shares a record of the node's own bank with one more bank.")
    int share(@Mixin Node node,
            @Option(names = "--person", required = true, description = "The bank's own, opaque reference.") String person,
            @Option(names = "--with", required = true, paramLabel = "BANK",
                    description = "The bank to share it with.") CordaX500Name bank,
            @Option(names = "--request", required = true,
                    description = "The application's reference of this change.") String request)
            throws Exception {
        try (Connection connection = node.connection()) {
            return print(connection.answer(ShareRecord.class, person, bank, request));
        }
    }

    @Command(description = "The current version of a record.")
    int read(@Mixin Node node,
            @Option(names = "--bank", required = true, description = "The owner.") CordaX500Name bank,
            @Option(names = "--person", required = true, description = "The owner's reference.") String person) throws Exception {
        try (Connection connection = node.connection()) {
            return print(connection.answer(ReadRecord.class, bank, person));
        }
    }

    @Command(description = "All versions of a record, the first report first.")
    int history(@Mixin Node node,
            @Option(names = "--bank", required = true, description = "The owner.") CordaX500Name bank,
            @Option(names = "--person", required = true, description = "The owner's reference.") String person) throws Exception {
        try (Connection connection = node.connection()) {
            for (StateAndRef<CreditRecord> version : connection.answer(RecordHistory.class, bank, person)) {
                print(version);
            }
            return 0;
        }
    }

    @Command(description = "How many records the node has, and a digest to compare banks by.")
    int count(@Mixin Node node,
            @Option(names = "--prefix", defaultValue = "",
                    description = "Prefix of the persons' references; default: all.") String prefix,
            @Option(names = "--with", paramLabel = "BANK",
                    description = "Count only records that this bank has too; may be repeated.") List<CordaX500Name> banks)
            throws Exception {
        try (Connection connection = node.connection()) {
            RecordCount count = connection.answer(CountRecords.class, prefix, list(banks));
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("records", count.getRecords());
            line.put("versions", count.getVersions());
            line.put("doubled", count.getDoubled());
            line.put("digest", count.getDigest());
            return print(line);
        }
    }

    @Command(description = "Creates and updates records for some time, and prints counts and the digest that count --prefix RUN- must print.")
    int stream(@Mixin Node node,
            @Option(names = "--run", required = true,
                    description = "Prefix of the persons' references; one that was not used before.") String run,
            @Option(names = "--callers", defaultValue = "4",
                    description = "Callers at once; default ${DEFAULT-VALUE}.") int callers,
            @Option(names = "--seconds", defaultValue = "60", description = "Default ${DEFAULT-VALUE}.") int seconds,
            @Option(names = "--versions", defaultValue = "5",
                    description = "Versions of each record; default ${DEFAULT-VALUE}.") int versions,
            @Option(names = "--with", paramLabel = "BANK",
                    description = "A bank to share with; may be repeated.") List<CordaX500Name> readers,
            @Option(names = "--each", description = "Also print a line for each answer.") boolean each) throws Exception {
        node.connection().close();
        Stream stream = new Stream(node::connection, run, list(readers), versions,
                each ? CreditRecordClient::print : line -> { }, System.err::println);
        Map<String, Object> result = stream.perform(callers, seconds);
        print(result);
        return (long) result.get("unanswered") > 0 ? UNANSWERED : (long) result.get("refused") > 0 ? REFUSED : 0;
    }

    private static List<CordaX500Name> list(List<CordaX500Name> names) {
        return names == null ? new ArrayList<>() : names;
    }

    private static int print(StateAndRef<CreditRecord> state) {
        CreditRecord record = state.getState().getData();
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("bank", record.bank().toString());
        line.put("person", record.person());
        line.put("version", record.getVersion());
        line.put("score", record.getScore());
        line.put("status", record.getStatus());
        line.put("reportedAt", record.getReportedAt().toString());
        line.put("request", record.getRequest());
        line.put("readers", CreditRecord.banksOf(record.getReaders()).stream().map(CordaX500Name::toString).collect(Collectors.toList()));
        line.put("transaction", state.getRef().getTxhash().toString());
        return print(line);
    }

    private static int print(Map<String, Object> line) {
        try {
            System.out.println(JSON.writeValueAsString(line));
            return 0;
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
    }

    private static int say(String what, Throwable e, int code) {
        System.err.println(what + ": " + e.getMessage());
        return code;
    }

    public static void main(String[] arguments) {
        // Otherwise the messaging library complains on stderr.
        System.setProperty("java.util.logging.manager", "org.jboss.logmanager.LogManager");
        CommandLine line = new CommandLine(new CreditRecordClient())
                .registerConverter(NetworkHostAndPort.class, NetworkHostAndPort::parse)
                .registerConverter(CordaX500Name.class, CordaX500Name::parse)
                .setParameterExceptionHandler((e, given) -> say("error", e, USAGE))
                .setExecutionExceptionHandler((e, command, parsed) -> e instanceof Refusal ? say("refused", e, REFUSED)
                        : e instanceof Unanswered ? say("unanswered", e, UNANSWERED) : say("error", e, USAGE));
        int code = line.execute(arguments);
        // Threads of the RPC library would keep the process running.
        System.exit(code);
    }
}
