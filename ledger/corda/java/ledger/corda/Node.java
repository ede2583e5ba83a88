package ledger.corda;

import java.time.Duration;
import net.corda.node.Corda;

/**
 * A Corda node with monitoring: {@code Node ARGUMENTS}, all of them the node's. System properties name the additional
 * ports.
 */
public final class Node {
    private static final long LOOK_MILLISECONDS = 1000;
    private static final long FULL_MILLISECONDS = 60_000;

    private Node() {}

    public static void main(String[] arguments) throws Exception {
        NodeMetrics metrics = new NodeMetrics();
        RpcForwarder rpcForwarder = null;
        String listen = System.getProperty("ledger.rpc.listen");
        if (listen != null) {
            Address node = new Address(System.getProperty("ledger.rpc.to"));
            rpcForwarder = new RpcForwarder(new Address(listen), node, metrics);
            rpcForwarder.start();
        }
        // Bound before the node starts: a port in use ends the process at once.
        new Monitoring(new Address(System.getProperty("ledger.monitoring")), metrics, rpcForwarder).start();
        DecoderLimits.install();
        retry();
        new HeapWatch(LOOK_MILLISECONDS, FULL_MILLISECONDS).start();
        SubscriptionErrors.install();
        Corda.main(arguments);
    }

    private static void retry() {
        try {
            HandshakeRetries.setInterval(Duration.ofMinutes(1));
        } catch (ReflectiveOperationException | RuntimeException another) {
            // Another version of Corda.
            log("<4>WARN Node: after failed TLS handshakes a peer is tried once a day: " + another);
        }
    }

    /** Prints one line of the journal; the text may quote a peer's. */
    static void log(String text) {
        System.err.println(text.replaceAll("\\R|\\x00", " | "));
    }
}
