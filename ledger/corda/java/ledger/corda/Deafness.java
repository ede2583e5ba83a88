package ledger.corda;

import rx.plugins.RxJavaErrorHandler;
import rx.plugins.RxJavaPlugins;

/**
 * Ends a node that would hear its peers no more. A message that comes while the database is away ends Corda's one
 * subscription to its inbox ({@code P2PMessagingClient.run}, 4.10): the node goes on, looks well, and takes no message until
 * it starts again. Its agent starts it again as soon as the database is back, and the brokers have the message still.
 */
final class Deafness extends RxJavaErrorHandler {
    private static final String INBOX = "net.corda.node.services.messaging.P2PMessagingClient";

    private Deafness() {}

    /** To be called before anything of the node's runs. */
    static void watch() {
        RxJavaPlugins.getInstance().registerErrorHandler(new Deafness());
    }

    @Override
    public void handleError(Throwable error) {
        if (isOfInbox(error)) {
            System.err.println("ERROR Deafness: no message of a peer is taken any more, so the node ends: " + error);
            Again.end();
        }
    }

    /** Whether nobody between the one who threw and the inbox is a subscriber of something else. */
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
