package ledger.corda;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Paths;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.serialization.SerializedBytes;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.node.services.statemachine.InitialSessionMessage;
import net.corda.node.services.statemachine.SessionId;
import net.corda.nodeapi.internal.config.CertificateStore;
import net.corda.nodeapi.internal.protonwrapper.messages.SendableMessage;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPClient;
import net.corda.nodeapi.internal.protonwrapper.netty.AMQPConfiguration;

/**
 * Sends messages to a node as a hostile member: {@code SendMessages HOST PORT CERTIFICATES LEGAL_NAME ADDRESS SENDER}. Each line
 * of the input is a kind and a payload in Base64: {@code message} sends the payload as a message, {@code flow} as the first
 * payload of a flow that each node answers.
 */
public final class SendMessages {
    private static final int MOST_BYTES = 10_485_760;

    private SendMessages() {}

    public static void main(String[] arguments) {
        try {
            send(arguments);
            Runtime.getRuntime().halt(0);
        } catch (Throwable error) {
            // Netty's threads would keep the process running.
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private static void send(String[] arguments) throws Exception {
        // It can be set up only once in a process.
        Amqp amqp = new Amqp();
        CordaX500Name peer = CordaX500Name.parse(arguments[3]);
        AMQPClient client =
                new AMQPClient(
                        Collections.singletonList(
                                new NetworkHostAndPort(arguments[0], Integer.parseInt(arguments[1]))),
                        Collections.singleton(peer),
                        new Credentials(arguments[2], System.getenv("LEDGER_KEYSTORE_PASSWORD")),
                        null);
        client.start();
        for (int looks = 0; !client.getConnected(); looks++) {
            if (looks == 300) {
                throw new IllegalStateException("no connection");
            }
            Thread.sleep(100);
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            byte[] payload = Base64.getDecoder().decode(words[1]);
            if (words[0].equals("flow")) {
                payload = initialSession(amqp, payload);
            }
            Map<String, Object> properties = new LinkedHashMap<>();
            properties.put("platform-topic", "platform.session");
            properties.put("corda-vendor", "test");
            properties.put("release-version", "4.10");
            properties.put("platform-version", 12);
            properties.put("_AMQ_DUPL_ID", UUID.randomUUID().toString());
            properties.put("sender-subject-name", arguments[5]);
            if (words[0].equals("flow")) {
                properties.put("corda_p2p_message_type", "session_init");
            }
            SendableMessage message = client.createMessage(payload, arguments[4], peer.toString(), properties);
            client.write(message);
            System.out.println(message.getOnComplete().get(30, TimeUnit.SECONDS));
        }
    }

    private static byte[] initialSession(Amqp amqp, byte[] payload) {
        return amqp.write(
                        new InitialSessionMessage(
                                // A new session for each message: the same id would continue the same session.
                                new SessionId(System.nanoTime()),
                                0,
                                "net.corda.core.flows.NotaryChangeFlow",
                                1,
                                "corda",
                                new SerializedBytes<Object>(payload),
                                null))
                .getBytes();
    }

    private static final class Credentials implements AMQPConfiguration {
        private final CertificateStore keys;
        private final CertificateStore roots;

        Credentials(String folder, String password) {
            keys = CertificateStore.Companion.fromFile(Paths.get(folder, "sslkeystore.jks"), password, password, false);
            roots = CertificateStore.Companion.fromFile(Paths.get(folder, "truststore.jks"), password, password, false);
        }

        @Override
        public CertificateStore getKeyStore() {
            return keys;
        }

        @Override
        public CertificateStore getTrustStore() {
            return roots;
        }

        @Override
        public int getMaxMessageSize() {
            return MOST_BYTES;
        }

        @Override
        public String getHealthCheckPhrase() {
            return null;
        }
    }
}
