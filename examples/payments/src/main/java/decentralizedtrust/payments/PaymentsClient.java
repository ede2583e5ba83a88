package decentralizedtrust.payments;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.Currency;
import java.util.LinkedHashMap;
import java.util.Map;
import net.corda.core.contracts.Amount;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.core.utilities.OpaqueBytes;
import net.corda.finance.flows.CashIssueFlow;
import net.corda.finance.flows.CashPaymentFlow;
import net.corda.finance.workflows.GetBalances;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

/**
 * A bank's application server as a command: it issues cash, pays other banks and lists its cash.
 * Answers are JSON lines on stdout; anything else is one line on stderr.
 */
@Command(name = "payments", synopsisSubcommandLabel = "COMMAND",
        description = "Payments between banks with Corda's finance CorDapp, through a node's RPC.",
        footer = {"", "Exit codes: 0 done, 2 wrong usage, 3 refused, 4 no answer: repeat it at the same node with the same --request."})
public final class PaymentsClient {
    private static final int USAGE = 2;
    private static final int REFUSED = 3;
    private static final int UNANSWERED = 4;
    private static final String PASSWORD = "PAYMENTS_PASSWORD";
    private static final String TRUST_STORE_PASSWORD = "PAYMENTS_TRUST_STORE_PASSWORD";
    private static final ObjectMapper JSON = new ObjectMapper();

    @Option(names = "--help", usageHelp = true, scope = ScopeType.INHERIT, description = "The options of a command.")
    private boolean help;

    /** Options of the connection. */
    static final class Node {
        @Option(names = "--node", required = true, paramLabel = "HOST:PORT",
                description = "RPC address of the node that owns the cash.")
        NetworkHostAndPort address;

        @Option(names = "--user", required = true, description = "RPC user; the password is read from " + PASSWORD + ".")
        String user;

        @Option(names = "--trust-store", paramLabel = "FILE",
                description = "JKS with the CA of the RPC server; its password is read from " + TRUST_STORE_PASSWORD + ". Without it: no TLS.")
        Path trustStore;

        @Option(names = "--timeout", defaultValue = "60", paramLabel = "SECONDS",
                description = "How long an answer may take; default ${DEFAULT-VALUE}.")
        int timeout;

        Ledger ledger() throws Ledger.Refused, Ledger.Unanswered {
            return new Ledger(address, user, environment(PASSWORD), trustStore,
                    trustStore == null ? null : environment(TRUST_STORE_PASSWORD), timeout);
        }

        private static String environment(String name) {
            String value = System.getenv(name);
            if (value == null || value.isEmpty()) {
                throw new IllegalArgumentException("environment variable " + name + " is not set; wanted a password");
            }
            return value;
        }
    }

    /** Options of a change: the amount, and the reference by which it may be repeated. */
    static final class Change {
        @Option(names = "--amount", required = true, description = "A decimal, as 12.50.")
        BigDecimal decimal;

        @Option(names = "--currency", required = true, description = "A code of ISO 4217, as GBP.")
        Currency currency;

        @Option(names = "--request", required = true, description = "The application's reference of this change.")
        String request;

        Amount<Currency> amount() {
            return PaymentsClient.amount(decimal, currency);
        }
    }

    @Command(description = "Issues cash, which the node's identity owes to its owner; the node is the first owner.")
    int issue(@Mixin Node node, @Mixin Change change) throws Exception {
        Amount<Currency> amount = change.amount();
        try (Ledger ledger = node.ledger()) {
            Party issuer = ledger.self();
            String transaction = ledger.change("issue " + change.request, amount, issuer,
                    CashIssueFlow.class, amount, OpaqueBytes.of((byte) 1), ledger.notary());
            return print(change, amount, issuer, transaction);
        }
    }

    @Command(description = "Pays from the node's cash.")
    int pay(@Mixin Node node, @Mixin Change change,
            @Option(names = "--to", required = true, paramLabel = "NAME",
                    description = "Legal name of the payee's node.") CordaX500Name to) throws Exception {
        Amount<Currency> amount = change.amount();
        try (Ledger ledger = node.ledger()) {
            Party payee = ledger.other(to);
            String transaction = ledger.change("pay " + change.request, amount, payee, CashPaymentFlow.class, amount, payee, false);
            return print(change, amount, payee, transaction);
        }
    }

    @Command(description = "The node's cash, a line for each currency that it has.")
    int balance(@Mixin Node node) throws Exception {
        try (Ledger ledger = node.ledger()) {
            String owner = ledger.self().getName().toString();
            for (Amount<Currency> amount : ledger.ask(GetBalances::getCashBalances).values()) {
                print(line("owner", owner, amount));
            }
            return 0;
        }
    }

    /**
     * @throws IllegalArgumentException if the amount is not positive, or has a fraction of the smallest coin
     */
    static Amount<Currency> amount(BigDecimal decimal, Currency currency) {
        if (decimal.signum() > 0) {
            try {
                return new Amount<>(decimal.movePointRight(currency.getDefaultFractionDigits()).longValueExact(), currency);
            } catch (ArithmeticException e) {
                // The error below says it.
            }
        }
        throw new IllegalArgumentException("--amount is " + decimal + "; wanted more than 0, at most " + Long.MAX_VALUE
                + " of the smallest coins of " + currency + ", and " + currency.getDefaultFractionDigits() + " decimals or fewer");
    }

    private static int print(Change change, Amount<Currency> amount, Party to, String transaction) {
        Map<String, Object> line = line("to", to.getName().toString(), amount);
        line.put("request", change.request);
        line.put("transaction", transaction);
        return print(line);
    }

    private static Map<String, Object> line(String whose, String name, Amount<Currency> amount) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put(whose, name);
        // A string: many readers of JSON would make a binary fraction of it.
        line.put("amount", amount.toDecimal().toPlainString());
        line.put("currency", amount.getToken().getCurrencyCode());
        return line;
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
        CommandLine line = new CommandLine(new PaymentsClient())
                .registerConverter(NetworkHostAndPort.class, NetworkHostAndPort::parse)
                .registerConverter(CordaX500Name.class, CordaX500Name::parse)
                .setParameterExceptionHandler((e, given) -> say("error", e, USAGE))
                .setExecutionExceptionHandler((e, command, parsed) -> e instanceof Ledger.Refused ? say("refused", e, REFUSED)
                        : e instanceof Ledger.Unanswered ? say("unanswered", e, UNANSWERED) : say("error", e, USAGE));
        int code = line.execute(arguments);
        // Threads of the RPC library would keep the process running.
        System.exit(code);
    }
}
