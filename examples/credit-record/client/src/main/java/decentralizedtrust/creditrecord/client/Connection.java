package decentralizedtrust.creditrecord.client;

import decentralizedtrust.creditrecord.workflows.Refusal;
import decentralizedtrust.creditrecord.workflows.Stage;
import java.time.Duration;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import net.corda.client.rpc.CordaRPCClient;
import net.corda.client.rpc.CordaRPCClientConfiguration;
import net.corda.client.rpc.CordaRPCConnection;
import net.corda.client.rpc.PermissionException;
import net.corda.core.flows.FlowLogic;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.messaging.ClientRpcSslOptions;
import net.corda.core.messaging.CordaRPCOps;
import net.corda.core.messaging.FlowProgressHandle;
import net.corda.core.utilities.NetworkHostAndPort;
import org.apache.activemq.artemis.api.core.ActiveMQSecurityException;

/**
 * One caller's connection to a bank's node, or to the node that the bank's load balancer chooses. A request without an answer is
 * repeated; all requests are idempotent.
 */
final class Connection implements AutoCloseable {
    private static final Duration PAUSE = Duration.ofSeconds(1);

    private final CordaRPCClient client;
    private final NetworkHostAndPort node;
    private final String user;
    private final String password;
    private final Duration timeout;
    private final Duration retryTimeout;
    private final Progress progress;
    private CordaRPCConnection connection;
    private long attempts;

    /**
     * @param tls null for a connection without TLS
     * @param timeout how long one attempt may take
     * @param retryTimeout how long a request is repeated
     * @param progress is called with the stages of a request; null for none
     */
    Connection(NetworkHostAndPort node, ClientRpcSslOptions tls, String user, String password, Duration timeout, Duration retryTimeout,
            Progress progress) {
        // A lost connection is replaced here, so that a load balancer may choose another node.
        CordaRPCClientConfiguration configuration = new CordaRPCClientConfiguration(timeout) {
            @Override
            public int getMaxReconnectAttempts() {
                return 0;
            }
        };
        this.client = tls == null ? new CordaRPCClient(node, configuration) : new CordaRPCClient(node, configuration, tls);
        this.node = node;
        this.user = user;
        this.password = password;
        this.timeout = timeout;
        this.retryTimeout = retryTimeout;
        this.progress = progress;
    }

    /** Number of attempts, repeated ones included. */
    long attempts() {
        return attempts;
    }

    /**
     * @throws Refusal when it is final
     * @throws Unanswered after {@code retryTimeout}; the request may have been processed, or may still be
     */
    <T> T answer(Class<? extends FlowLogic<T>> flow, Object... arguments) throws Refusal, Unanswered, InterruptedException {
        long deadline = System.nanoTime() + retryTimeout.toNanos();
        while (true) {
            String reason;
            try {
                attempts++;
                CordaRPCOps ledger = connected();
                return progress == null
                        ? ended(ledger.startFlowDynamic(flow, arguments).getReturnValue())
                        : followed(ledger, flow, arguments);
            } catch (InterruptedException e) {
                throw e;
            } catch (TimeoutException e) {
                reason = "no answer within " + timeout.getSeconds() + " s";
                close();
            } catch (Exception e) {
                Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
                if (cause instanceof Refusal) {
                    if (!((Refusal) cause).isRetryable()) {
                        throw (Refusal) cause;
                    }
                    // Another node of the bank may have the version.
                    close();
                } else if (cause instanceof PermissionException || cause instanceof ActiveMQSecurityException) {
                    throw new Refusal("user " + user + ": " + cause.getMessage(), false);
                } else {
                    close();
                }
                reason = cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage();
            }
            if (System.nanoTime() + PAUSE.toNanos() > deadline) {
                throw new Unanswered(node + ": " + reason.split("\n")[0]);
            }
            Thread.sleep(PAUSE.toMillis());
        }
    }

    private <T> T ended(Future<T> flow) throws InterruptedException, ExecutionException, TimeoutException {
        return flow.get(timeout.toMillis(), TimeUnit.MILLISECONDS);
    }

    private <T> T followed(CordaRPCOps ledger, Class<? extends FlowLogic<T>> flow, Object... arguments)
            throws InterruptedException, ExecutionException, TimeoutException {
        progress.taken(ledger.nodeInfo().getLegalIdentities().get(0).getName());
        FlowProgressHandle<T> started = ledger.startTrackedFlowDynamic(flow, arguments);
        // Another thread calls this, in the order of the stages: the last may come after the answer.
        Future<String> next = started.getProgress()
                .doOnNext(label -> Stage.of(label).ifPresent(progress::at))
                .lastOrDefault("").toBlocking().toFuture();
        T answer = ended(started.getReturnValue());
        try {
            next.get(PAUSE.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException | TimeoutException e) {
            // Only the answer matters.
        }
        return answer;
    }

    private CordaRPCOps connected() {
        if (connection == null) {
            connection = client.start(user, password);
        }
        return connection.getProxy();
    }

    @Override
    public void close() {
        if (connection != null) {
            try {
                connection.forceClose();
            } catch (RuntimeException e) {
                // The connection is discarded.
            }
            connection = null;
        }
    }

    /** Receives the stages of a request. */
    interface Progress {
        /** @param node that received the request */
        void taken(CordaX500Name node);

        void at(Stage stage);
    }

    /** It is unknown whether the request was processed. */
    static final class Unanswered extends Exception {
        Unanswered(String message) {
            super(message);
        }
    }
}
