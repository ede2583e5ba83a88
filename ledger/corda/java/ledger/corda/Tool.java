package ledger.corda;

import com.typesafe.config.Config;
import com.typesafe.config.ConfigException;
import com.typesafe.config.ConfigFactory;
import com.typesafe.config.ConfigParseOptions;
import com.typesafe.config.ConfigRenderOptions;
import com.typesafe.config.ConfigSyntax;
import com.typesafe.config.ConfigValueFactory;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.security.GeneralSecurityException;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import net.corda.client.rpc.CordaRPCClient;
import net.corda.client.rpc.CordaRPCClientConfiguration;
import net.corda.client.rpc.CordaRPCConnection;
import net.corda.core.identity.Party;
import net.corda.core.identity.PartyAndCertificate;
import net.corda.core.internal.DigitalSignatureWithCert;
import net.corda.core.internal.SignedDataWithCert;
import net.corda.core.messaging.ClientRpcSslOptions;
import net.corda.core.messaging.CordaRPCOps;
import net.corda.core.node.NetworkParameters;
import net.corda.core.node.NodeInfo;
import net.corda.core.node.NotaryInfo;
import net.corda.core.serialization.SerializedBytes;
import net.corda.core.utilities.NetworkHostAndPort;
import net.corda.nodeapi.internal.SignedNodeInfo;
import net.corda.nodeapi.internal.crypto.X509Utilities;
import net.corda.nodeapi.internal.network.NetworkMapKt;

/**
 * Commands that need Corda's own code: {@code Tool COMMAND}, one JSON document in, one out. A refusal is one line
 * "refused: ..." on standard error, and exit status 1. Its only secrets are passwords in its environment.
 */
public final class Tool {
    private static final String REFUSED = "refused: ";
    private static final long LOOK_MILLISECONDS = 250;

    private Tool() {}

    public static void main(String[] arguments) {
        // Libraries may print; standard output must have the answer alone.
        PrintStream answers = System.out;
        System.setOut(System.err);
        int status = 1;
        try {
            Config given =
                    ConfigFactory.parseReader(
                            new InputStreamReader(System.in, StandardCharsets.UTF_8),
                            ConfigParseOptions.defaults().setSyntax(ConfigSyntax.JSON));
            DecoderLimits.install();
            Map<String, Object> answer = answer(arguments.length == 1 ? arguments[0] : "", given);
            answers.println(ConfigValueFactory.fromMap(answer).render(ConfigRenderOptions.concise()));
            answers.flush();
            status = answers.checkError() ? 1 : 0;
        } catch (Refusal | ConfigException refusal) {
            System.err.println(REFUSED + line(refusal.getMessage()));
        } catch (Throwable error) {
            System.err.println(REFUSED + line(error.getClass().getSimpleName() + ": " + error.getMessage()));
        }
        System.err.flush();
        // An RPC client's threads would keep the process alive.
        Runtime.getRuntime().halt(status);
    }

    private static Map<String, Object> answer(String command, Config given) throws Exception {
        switch (command) {
            case "parameters":
                return parameters(given);
            case "sign-parameters":
                return signParameters(given);
            case "verify-parameters":
                return verifyParameters(given);
            case "node-info":
                return nodeInfo(given);
            case "drain":
                return drain(given);
            case "messages":
                try (Journal journal = new Journal(Paths.get(given.getString("folder")))) {
                    return journal.list();
                }
            case "set-aside":
                try (Journal journal = new Journal(Paths.get(given.getString("folder")))) {
                    return journal.setAside(given.getLong("id"), Paths.get(given.getString("file")));
                }
            default:
                throw new Refusal(
                        "command '" + command + "'; wanted parameters, sign-parameters, verify-parameters, node-info, drain, messages or"
                                + " set-aside");
        }
    }

    private static Map<String, Object> parameters(Config given) throws Exception {
        List<NotaryInfo> notaries = new ArrayList<>();
        for (Config each : given.getConfigList("notaries")) {
            Party party = new Party(certificate(each.getString("certificate")));
            notaries.add(new NotaryInfo(party, each.getBoolean("validating")));
        }
        NetworkParameters made =
                new NetworkParameters(
                        given.getInt("minimumPlatformVersion"),
                        notaries,
                        given.getInt("maxMessageSize"),
                        given.getInt("maxTransactionSize"),
                        Instant.parse(given.getString("modifiedTime")),
                        given.getInt("epoch"),
                        Collections.emptyMap(),
                        Duration.ofDays(given.getInt("eventHorizonDays")),
                        Collections.emptyMap());
        return Collections.singletonMap("raw", encoded(new Amqp().write(made).getBytes()));
    }

    private static Map<String, Object> signParameters(Config given) throws Exception {
        Amqp amqp = new Amqp();
        byte[] raw = decoded(given.getString("raw"));
        amqp.read(raw, NetworkParameters.class);
        List<X509Certificate> parents = new ArrayList<>();
        if (given.hasPath("chain")) {
            for (String each : given.getStringList("chain")) {
                parents.add(certificate(each));
            }
        }
        DigitalSignatureWithCert signature =
                new DigitalSignatureWithCert(
                        certificate(given.getString("certificate")), parents, decoded(given.getString("signature")));
        SignedDataWithCert<NetworkParameters> signed =
                new SignedDataWithCert<>(new SerializedBytes<NetworkParameters>(raw), signature);
        signed.verified();
        return Collections.singletonMap("document", encoded(amqp.write(signed).getBytes()));
    }

    private static Map<String, Object> verifyParameters(Config given) throws Exception {
        Amqp amqp = new Amqp();
        @SuppressWarnings("unchecked")
        SignedDataWithCert<NetworkParameters> signed =
                amqp.read(decoded(given.getString("document")), SignedDataWithCert.class);
        amqp.read(signed.getRaw().getBytes(), NetworkParameters.class);
        NetworkParameters read = NetworkMapKt.verifiedNetworkParametersCert(signed, trustRoot(given));
        List<Map<String, Object>> notaries = new ArrayList<>();
        for (NotaryInfo each : read.getNotaries()) {
            Map<String, Object> notary = new LinkedHashMap<>();
            notary.put("legalName", each.getIdentity().getName().toString());
            notary.put("key", encoded(each.getIdentity().getOwningKey().getEncoded()));
            notary.put("validating", each.getValidating());
            notaries.add(notary);
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("epoch", read.getEpoch());
        answer.put("minimumPlatformVersion", read.getMinimumPlatformVersion());
        answer.put("notaries", notaries);
        answer.put("maxMessageSize", read.getMaxMessageSize());
        answer.put("maxTransactionSize", read.getMaxTransactionSize());
        answer.put("eventHorizonDays", read.getEventHorizon().toDays());
        return answer;
    }

    /** Verifies node information with the node's own code. */
    private static Map<String, Object> nodeInfo(Config given) throws Exception {
        Amqp amqp = new Amqp();
        Set<X509Certificate> trustRoot = trustRoot(given);
        List<Map<String, Object>> answers = new ArrayList<>();
        for (String each : given.getStringList("documents")) {
            answers.add(nodeInfo(amqp, each, trustRoot));
        }
        return Collections.singletonMap("infos", answers);
    }

    private static Map<String, Object> nodeInfo(Amqp amqp, String document, Set<X509Certificate> trustRoot)
            throws Exception {
        SignedNodeInfo signed = amqp.read(decoded(document), SignedNodeInfo.class);
        int identities = amqp.read(signed.getRaw().getBytes(), NodeInfo.class).getLegalIdentitiesAndCerts().size();
        if (identities != 1) {
            // Each is verified at every member, again and again.
            throw new IllegalArgumentException(identities + " identities of one node; wanted one");
        }
        NodeInfo info = signed.verified();
        List<String> names = new ArrayList<>();
        List<List<String>> chains = new ArrayList<>();
        for (PartyAndCertificate each : info.getLegalIdentitiesAndCerts()) {
            X509Utilities.INSTANCE.validateCertPath(trustRoot, each.getCertPath());
            names.add(each.getName().toString());
            List<String> chain = new ArrayList<>();
            for (Certificate certificate : each.getCertPath().getCertificates()) {
                chain.add(encoded(certificate.getEncoded()));
            }
            chains.add(chain);
        }
        List<String> addresses = new ArrayList<>();
        for (NetworkHostAndPort each : info.getAddresses()) {
            addresses.add(each.toString());
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("legalNames", names);
        answer.put("chains", chains);
        answer.put("addresses", addresses);
        answer.put("serial", info.getSerial());
        // The node's own file name, so that a newer file replaces an older one.
        answer.put("fileName", "nodeInfo-" + amqp.write(info.getLegalIdentities().get(0).getName()).getHash());
        return answer;
    }

    private static Map<String, Object> drain(Config given) throws Exception {
        long end = System.nanoTime() + (long) (given.getDouble("seconds") * 1e9);
        ClientRpcSslOptions trust =
                new ClientRpcSslOptions(
                        Paths.get(given.getString("trustStore")), environment("LEDGER_TRUSTSTORE_PASSWORD"), "JKS");
        CordaRPCClient client =
                new CordaRPCClient(
                        new NetworkHostAndPort(given.getString("host"), given.getInt("port")),
                        CordaRPCClientConfiguration.DEFAULT,
                        trust);
        try (CordaRPCConnection connection =
                client.start(environment("LEDGER_RPC_USER"), environment("LEDGER_RPC_PASSWORD"))) {
            CordaRPCOps node = connection.getProxy();
            node.setFlowsDrainingModeEnabled(true);
            int inFlight = node.stateMachinesSnapshot().size();
            while (inFlight > 0 && System.nanoTime() < end) {
                Thread.sleep(LOOK_MILLISECONDS);
                inFlight = node.stateMachinesSnapshot().size();
            }
            return Collections.singletonMap("inFlight", inFlight);
        }
    }

    private static Set<X509Certificate> trustRoot(Config given) throws GeneralSecurityException {
        return Collections.singleton(certificate(given.getString("trustRoot")));
    }

    private static X509Certificate certificate(String encoded) throws GeneralSecurityException {
        return (X509Certificate)
                CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(decoded(encoded)));
    }

    private static String environment(String name) throws Refusal {
        String value = System.getenv(name);
        if (value == null) {
            throw new Refusal("environment variable " + name + " is not set");
        }
        return value;
    }

    private static byte[] decoded(String text) {
        return Base64.getDecoder().decode(text);
    }

    private static String encoded(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }

    private static String line(String message) {
        return String.valueOf(message).replaceAll("\\s+", " ").trim();
    }
}
