package ledger.corda;

import com.typesafe.config.ConfigRenderOptions;
import com.typesafe.config.ConfigValueFactory;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Scanner;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.nodeapi.internal.ArtemisMessagingClient;
import net.corda.nodeapi.internal.ArtemisSessionProvider;
import net.corda.nodeapi.internal.bridging.AMQPBridgeManager;
import net.corda.nodeapi.internal.config.CertificateStore;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPConfiguration;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPServer;
import net.corda.nodeapi.internal.protonwrapper.netty.RevocationConfig;
import net.corda.nodeapi.internal.protonwrapper.netty.RevocationConfigImpl;
import org.apache.activemq.artemis.api.core.client.ClientProducer;
import org.apache.activemq.artemis.api.core.client.ClientSession;
import org.apache.activemq.artemis.api.core.client.ClientSessionFactory;
import org.apache.activemq.artemis.api.core.client.ServerLocator;

/**
 * {@code RunBridges FOLDER PASSWORD}: runs Corda's own bridges, and servers of peers with the key stores in subfolders. Each
 * line of the input is a command: {@code serve FOLDER PORT}, {@code end FOLDER}, {@code bridge PORT NAME}, {@code remove PORT},
 * {@code list}, which prints {@link DisconnectedBridges}.
 */
public final class RunBridges {
    private static final int MOST_BYTES = 10_485_760;
    private static final RevocationConfig NONE = new RevocationConfigImpl(RevocationConfig.Mode.OFF, null);

    private RunBridges() {}

    public static void main(String[] arguments) throws Exception {
        Path folder = Paths.get(arguments[0]);
        String password = arguments[1];
        AMQPBridgeManager bridges =
                new AMQPBridgeManager(
                        store(folder.resolve("own/sslkeystore.jks"), password),
                        store(folder.resolve("own/truststore.jks"), password),
                        false,
                        null,
                        MOST_BYTES,
                        NONE,
                        false,
                        () -> broker(),
                        null,
                        false,
                        null,
                        0);
        bridges.start();
        Map<String, AMQPServer> servers = new HashMap<>();
        Scanner input = new Scanner(System.in);
        while (input.hasNextLine()) {
            String[] command = input.nextLine().split(" ", 3);
            switch (command[0]) {
                case "serve":
                    AMQPServer server =
                            new AMQPServer("127.0.0.1", Integer.parseInt(command[2]), peer(folder.resolve(command[1]), password));
                    server.start();
                    servers.put(command[1], server);
                    break;
                case "end":
                    servers.get(command[1]).close();
                    break;
                case "bridge":
                    bridges.deployBridge(
                            "O=Own, L=London, C=GB",
                            "internal.peers." + command[1],
                            Collections.singletonList(new NetworkHostAndPort("127.0.0.1", Integer.parseInt(command[1]))),
                            Collections.singleton(CordaX500Name.parse(command[2])));
                    break;
                case "remove":
                    bridges.destroyBridge(
                            "internal.peers." + command[1],
                            Collections.singletonList(new NetworkHostAndPort("127.0.0.1", Integer.parseInt(command[1]))));
                    break;
                default:
                    System.out.println(
                            "list " + ConfigValueFactory.fromIterable(DisconnectedBridges.read()).render(ConfigRenderOptions.concise()));
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private static CertificateStore store(Path file, String password) {
        return CertificateStore.Companion.fromFile(file, password, password, false);
    }

    /** A broker that accepts every call. */
    private static ArtemisSessionProvider broker() {
        ArtemisMessagingClient.Started started =
                new ArtemisMessagingClient.Started(
                        any(ServerLocator.class),
                        any(ClientSessionFactory.class),
                        any(ClientSession.class),
                        any(ClientProducer.class));
        return (ArtemisSessionProvider)
                Proxy.newProxyInstance(
                        RunBridges.class.getClassLoader(),
                        new Class<?>[] {ArtemisSessionProvider.class},
                        (proxy, method, given) -> method.getName().equals("stop") ? null : started);
    }

    private static <T> T any(Class<T> type) {
        return type.cast(
                Proxy.newProxyInstance(
                        RunBridges.class.getClassLoader(),
                        new Class<?>[] {type},
                        (proxy, method, given) -> {
                            Class<?> returned = method.getReturnType();
                            return returned == boolean.class ? false : returned.isInterface() ? any(returned) : null;
                        }));
    }

    private static AMQPConfiguration peer(Path folder, String password) {
        CertificateStore keys = store(folder.resolve("sslkeystore.jks"), password);
        CertificateStore trusted = store(folder.resolve("truststore.jks"), password);
        return new AMQPConfiguration() {
            @Override
            public CertificateStore getKeyStore() {
                return keys;
            }

            @Override
            public CertificateStore getTrustStore() {
                return trusted;
            }

            @Override
            public int getMaxMessageSize() {
                return MOST_BYTES;
            }

            @Override
            public String getHealthCheckPhrase() {
                return null;
            }

            @Override
            public RevocationConfig getRevocationConfig() {
                return NONE;
            }
        };
    }
}
