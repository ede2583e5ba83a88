package ledger.corda;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.Collections;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPClient;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPConfiguration;

/**
 * {@code PrintRetryIntervals SECONDS}: prints how long Corda's client waits after each of ten
 * failed handshakes; 0 leaves Corda's own intervals.
 */
public final class PrintRetryIntervals {
    private PrintRetryIntervals() {}

    public static void main(String[] arguments) throws Exception {
        long seconds = Long.parseLong(arguments[0]);
        if (seconds > 0) {
            HandshakeRetries.setInterval(Duration.ofSeconds(seconds));
        }
        Object configuration =
                Proxy.newProxyInstance(
                        PrintRetryIntervals.class.getClassLoader(),
                        new Class<?>[] {AMQPConfiguration.class},
                        (proxy, method, given) -> null);
        AMQPClient client =
                new AMQPClient(
                        Collections.singletonList(new NetworkHostAndPort("127.0.0.1", 10000)),
                        Collections.emptySet(),
                        (AMQPConfiguration) configuration,
                        null);
        Field failing = AMQPClient.class.getDeclaredField("retryingHandshakeFailures");
        Field interval = AMQPClient.class.getDeclaredField("retryInterval");
        Method next = AMQPClient.class.getDeclaredMethod("setTargetRetryInterval");
        failing.setAccessible(true);
        interval.setAccessible(true);
        next.setAccessible(true);
        failing.setBoolean(client, true);
        for (int count = 0; count < 10; count++) {
            next.invoke(client);
            System.out.println("waits " + interval.getLong(client));
        }
        Runtime.getRuntime().halt(0);
    }
}
