package ledger.corda;

import java.time.Duration;
import net.corda.node.Corda;

/**
 * A Corda node with monitoring: {@code Node ARGUMENTS}, all of them the node's. System properties, none secret, name the
 * additional ports; see {@link Monitoring} and {@link Spread}.
 */
public final class Node {
    private static final long LOOK_MILLISECONDS = 1000;
    private static final long FULL_MILLISECONDS = 60_000;

    private Node() {}

    public static void main(String[] arguments) throws Exception {
        Figures figures = new Figures();
        Spread spread = null;
        String listen = System.getProperty("ledger.spread.listen");
        if (listen != null) {
            spread = new Spread(new Address(listen), new Address(System.getProperty("ledger.spread.to")), figures);
            spread.start();
        }
        // Bound before the node starts: a port in use ends the process at once.
        new Monitoring(new Address(System.getProperty("ledger.monitoring")), figures, spread).start();
        Claims.check();
        retry();
        new Heap(LOOK_MILLISECONDS, FULL_MILLISECONDS).start();
        Deafness.watch();
        Corda.main(arguments);
    }

    private static void retry() {
        try {
            Retries.each(Duration.ofMinutes(1));
        } catch (ReflectiveOperationException | RuntimeException another) {
            // Another version of Corda: a peer is only tried less often.
            System.err.println("<4>WARN Node: after failed TLS handshakes a peer is tried once a day: " + another);
        }
    }
}
