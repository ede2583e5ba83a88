package ledger.corda;

import java.sql.SQLException;
import rx.plugins.RxJavaErrorHandler;
import rx.plugins.RxJavaPlugins;

/**
 * Ends a node that takes no more messages, or no more changes of members. Corda 4.10 subscribes once to each, and an error
 * in the subscriber, as while the database is away, ends the subscription: the node only seems healthy. The agent restarts
 * it when the database is back; the brokers still have the message, and the agent the members.
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
        boolean isInbox = isOf(INBOX, error);
        if (isInbox || isOf(MEMBERS, error)) {
            System.err.println("<3>ERROR Deafness: no " + (isInbox ? "message" : "change of members")
                    + " is taken any more until the node's next start: " + error);
            if (isInbox || !isRefused(error)) {
                Again.end();
            }
        }
    }

    /** Whether the error was thrown in this class's subscriber, and not in another one that it called. */
    private static boolean isOf(String name, Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("rx.")) {
                return false;
            }
            if (frame.getClassName().startsWith(name)) {
                return true;
            }
        }
        return false;
    }

    /** Whether the database refuses a member's information (SQLSTATE 22 or 23), as it would after each start. */
    private static boolean isRefused(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException) {
                return String.valueOf(((SQLException) cause).getSQLState()).matches("2[23].*");
            }
        }
        return true;
    }
}
