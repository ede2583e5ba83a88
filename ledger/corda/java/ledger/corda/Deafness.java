package ledger.corda;

import java.sql.SQLException;
import rx.plugins.RxJavaErrorHandler;
import rx.plugins.RxJavaPlugins;

/**
 * Ends a node that no longer hears of messages or members. Corda 4.10 subscribes once to its inbox ({@code
 * P2PMessagingClient.run}) and once to the files of members ({@code NetworkMapUpdater.watchForNodeInfoFiles}); an error in
 * either subscriber, as while the database is away, ends the subscription. The node seems healthy, but takes no message, or
 * forgets no revoked member, until it restarts. The agent restarts it when the database is back; the brokers still have the
 * message, and the agent the members.
 */
final class Deafness extends RxJavaErrorHandler {
    private static final String INBOX = "net.corda.node.services.messaging.P2PMessagingClient";
    private static final String MEMBERS = "net.corda.node.services.network.NetworkMapUpdater";

    private Deafness() {}

    /** Call before the node starts. */
    static void watch() {
        RxJavaPlugins.getInstance().registerErrorHandler(new Deafness());
    }

    @Override
    public void handleError(Throwable error) {
        if (isOf(INBOX, error)) {
            System.err.println("<3>ERROR Deafness: no message of a peer is taken any more, so the node ends: " + error);
            Again.end();
        } else if (isOf(MEMBERS, error)) {
            boolean ends = isDatabaseAway(error);
            System.err.println("<3>ERROR Deafness: no change of members is heard any more"
                    + (ends ? ", so the node ends: " : " until the next start: ") + error);
            if (ends) {
                Again.end();
            }
        }
    }

    /** Whether the error was thrown in this class's subscriber, and not in another one that it called. */
    private static boolean isOf(String subscriber, Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("rx.")) {
                return false;
            }
            if (frame.getClassName().startsWith(subscriber)) {
                return true;
            }
        }
        return false;
    }

    /** Whether a restart helps. A member's information that the database refuses would be refused again, without end. */
    private static boolean isDatabaseAway(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException) {
                String state = String.valueOf(((SQLException) cause).getSQLState());
                // Class 22: data exception; 23: integrity constraint violation.
                return !state.startsWith("22") && !state.startsWith("23");
            }
        }
        return false;
    }
}
