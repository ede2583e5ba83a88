package decentralizedtrust.payments;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Currency;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import net.corda.client.rpc.CordaRPCClient;
import net.corda.client.rpc.CordaRPCClientConfiguration;
import net.corda.client.rpc.CordaRPCConnection;
import net.corda.client.rpc.PermissionException;
import net.corda.core.contracts.Amount;
import net.corda.core.flows.FlowLogic;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.messaging.ClientRpcSslOptions;
import net.corda.core.messaging.CordaRPCOps;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.finance.contracts.asset.Cash;
import net.corda.finance.flows.AbstractCashFlow;
import net.corda.finance.flows.CashException;
import org.apache.activemq.artemis.api.core.ActiveMQSecurityException;

/** The ledger as one node has it. No request is repeated: that is the caller's decision. */
final class Ledger implements AutoCloseable {
    /** A request to a node. */
    interface Question<T> {
        T of(CordaRPCOps node) throws Exception;
    }

    private final NetworkHostAndPort address;
    private final String user;
    private final int timeout;
    private final CordaRPCConnection connection;

    /**
     * @param trustStore null for a connection without TLS
     * @param timeout seconds that a change may take
     */
    Ledger(NetworkHostAndPort address, String user, String password, Path trustStore, String trustStorePassword, int timeout)
            throws Refused, Unanswered {
        if (trustStore != null && !Files.isReadable(trustStore)) {
            throw new IllegalArgumentException("--trust-store is " + trustStore + "; wanted a file that can be read");
        }
        this.address = address;
        this.user = user;
        this.timeout = timeout;
        CordaRPCClientConfiguration once = new CordaRPCClientConfiguration(Duration.ofSeconds(timeout)) {
            @Override
            public int getMaxReconnectAttempts() {
                return 0;
            }
        };
        CordaRPCClient client = trustStore == null ? new CordaRPCClient(address, once)
                : new CordaRPCClient(address, once, new ClientRpcSslOptions(trustStore, trustStorePassword, "JKS"));
        this.connection = answer(() -> client.start(user, password));
    }

    /** The node's own identity. */
    Party self() throws Refused, Unanswered {
        return ask(node -> node.nodeInfo().getLegalIdentities().get(0));
    }

    /** The identity of another node. */
    Party other(CordaX500Name name) throws Refused, Unanswered {
        Party found = ask(node -> node.wellKnownPartyFromX500Name(name));
        if (found == null || found.equals(self())) {
            throw new Refused(name + " is " + (found == null ? "not in the network map" : "this node itself") + "; wanted another node's name");
        }
        return found;
    }

    /** The first notary of the network parameters. */
    Party notary() throws Refused, Unanswered {
        return ask(CordaRPCOps::notaryIdentities).stream().findFirst().orElseThrow(() -> new Refused("the network has no notary"));
    }

    /**
     * The hash of the transaction that a flow made. With a reference that was used before, the node starts no flow and returns the
     * result of the earlier one.
     *
     * @param reference one for each change at this node
     * @param to the new owner of the cash
     */
    String change(String reference, Amount<Currency> amount, Party to, Class<? extends FlowLogic<AbstractCashFlow.Result>> flow,
            Object... arguments) throws Refused, Unanswered {
        AbstractCashFlow.Result made = ask(node -> node.startFlowDynamicWithClientId(reference, flow, arguments)
                .getReturnValue().get(timeout, TimeUnit.SECONDS));
        long moved = made.getStx().getTx().outputsOfType(Cash.State.class).stream()
                .filter(each -> each.getOwner().equals(to))
                .map(each -> each.getAmount())
                .filter(each -> each.getToken().getProduct().equals(amount.getToken()))
                .mapToLong(Amount::getQuantity).sum();
        if (moved != amount.getQuantity()) {
            throw new Refused("reference \"" + reference + "\" is that of an earlier change, " + made.getStx().getId()
                    + ", of another amount or to another identity; wanted a new reference");
        }
        return made.getStx().getId().toString();
    }

    <T> T ask(Question<T> question) throws Refused, Unanswered {
        return answer(() -> question.of(connection.getProxy()));
    }

    private <T> T answer(Callable<T> call) throws Refused, Unanswered {
        try {
            return call.call();
        } catch (PermissionException | ActiveMQSecurityException e) {
            throw new Refused("user " + user + ": " + line(e));
        } catch (TimeoutException e) {
            throw new Unanswered(address + ": no answer within " + timeout + " s");
        } catch (ExecutionException e) {
            // Any other error may have ended the flow after its transaction was committed.
            if (e.getCause() instanceof CashException) {
                throw new Refused(line(e.getCause()));
            }
            throw new Unanswered(address + ": " + line(e.getCause()));
        } catch (Exception e) {
            throw new Unanswered(address + ": " + line(e));
        }
    }

    private static String line(Throwable e) {
        return e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage().split("\n")[0];
    }

    @Override
    public void close() {
        try {
            connection.forceClose();
        } catch (RuntimeException e) {
            // The connection is discarded.
        }
    }

    /** This call did not do it. */
    static final class Refused extends Exception {
        Refused(String message) {
            super(message);
        }
    }

    /** It is unknown whether it was done. */
    static final class Unanswered extends Exception {
        Unanswered(String message) {
            super(message);
        }
    }
}
