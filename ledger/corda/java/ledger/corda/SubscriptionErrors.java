package ledger.corda;

import java.sql.SQLException;
import rx.plugins.RxJavaErrorHandler;
import rx.plugins.RxJavaPlugins;

/**
 * Ends a node whose subscription to messages or to the network map has ended; the agent restarts it. Corda 4.10 subscribes
 * once to each, and an error in the subscriber, such as an unavailable database, ends the subscription.
 */
final class SubscriptionErrors extends RxJavaErrorHandler {
    private static final String INBOX = "net.corda.node.services.messaging.P2PMessagingClient";
    private static final String MEMBERS = "net.corda.node.services.network.NetworkMapUpdater";

    /** EX_SOFTWARE of sysexits.h. */
    private static final int STATUS = 70;

    private static volatile boolean followsMembers = true;

    private SubscriptionErrors() {}

    /** Whether the node still reads changed node information. */
    static boolean followsMembers() {
        return followsMembers;
    }

    /** Call before the node starts. */
    static void install() {
        RxJavaPlugins.getInstance().registerErrorHandler(new SubscriptionErrors());
    }

    @Override
    public void handleError(Throwable error) {
        boolean isInbox = isOf(INBOX, error);
        if (isInbox || isOf(MEMBERS, error)) {
            Node.log("<3>ERROR SubscriptionErrors: no " + (isInbox ? "message" : "change of members")
                    + " is processed until the node's next start: " + error);
            if (isOutage(error)) {
                NodeRestart.exit();
            } else if (isInbox) {
                // The message comes again at each start: this counts as a death, so that restarts become rarer.
                Runtime.getRuntime().halt(STATUS);
            }
            followsMembers = false;
        }
    }

    /** Whether this class's subscriber threw the error, not another one that it called. */
    private static boolean isOf(String name, Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            boolean isThere = frame.getClassName().startsWith(name);
            if (isThere || frame.getClassName().startsWith("rx.")) {
                return isThere;
            }
        }
        return false;
    }

    /** Whether the database was unavailable (SQLSTATE 08, 40, 57): any other error would come again at each start. */
    private static boolean isOutage(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException) {
                return String.valueOf(((SQLException) cause).getSQLState()).matches("(null|08|40|57).*");
            }
        }
        return false;
    }
}
