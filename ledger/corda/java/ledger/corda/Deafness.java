package ledger.corda;

import rx.plugins.RxJavaErrorHandler;
import rx.plugins.RxJavaPlugins;

/**
 * Ends a node that no longer receives messages. A message that arrives while the database is away ends Corda's only
 * subscription to its inbox ({@code P2PMessagingClient.run}, 4.10): the node seems healthy, but takes no message until it
 * restarts. The agent restarts it when the database is back, and the brokers still have the message.
 */
final class Deafness extends RxJavaErrorHandler {
    private static final String INBOX = "net.corda.node.services.messaging.P2PMessagingClient";

    private Deafness() {}

    /** Call before the node starts. */
    static void watch() {
        RxJavaPlugins.getInstance().registerErrorHandler(new Deafness());
    }

    @Override
    public void handleError(Throwable error) {
        if (isOfInbox(error)) {
            System.err.println("<3>ERROR Deafness: no message of a peer is taken any more, so the node ends: " + error);
            Again.end();
        }
    }

    /** Whether the error was thrown in the inbox's subscriber, and not in another one that it called. */
    private static boolean isOfInbox(Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("rx.")) {
                return false;
            }
            if (frame.getClassName().startsWith(INBOX)) {
                return true;
            }
        }
        return false;
    }
}
