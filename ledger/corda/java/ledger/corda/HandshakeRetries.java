package ledger.corda;

import java.lang.reflect.Field;
import java.time.Duration;
import java.util.Collections;
import java.util.List;

/**
 * Makes a node retry soon after a failed TLS handshake. Corda retries five times in 25 minutes and then once a day
 * (corda#7243), so a peer whose certificate was wrong for half an hour would stay cut off for a day.
 */
final class HandshakeRetries {
    /** A year at one a minute; a successful connection restarts the list. */
    private static final int MOST = 500_000;

    private HandshakeRetries() {}

    /** Call before the node connects. Throws if Corda's client differs from the expected one. */
    static void setInterval(Duration interval) throws ReflectiveOperationException {
        Class<?> client = Class.forName("net.corda.nodeapi.internal.protonwrapper.netty.AMQPClient");
        Field field = client.getDeclaredField("handshakeRetryIntervals");
        field.setAccessible(true);
        @SuppressWarnings("unchecked")
        List<Duration> intervals = (List<Duration>) field.get(null);
        intervals.clear();
        intervals.addAll(Collections.nCopies(MOST, interval));
    }
}
