import java.io.FileInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/** Opens the key stores of a node as Corda does, and validates their certificate paths as Java does for Corda. */
public final class ReadKeyStores {
    public static void main(String[] arguments) throws Exception {
        char[] password = arguments[0].toCharArray();
        for (String folder : List.of("authority", "zone")) {
            X509Certificate root = (X509Certificate) open(folder + "/truststore.jks", password).getCertificate("cordarootca");
            for (String name : List.of("nodekeystore", "sslkeystore", "rpcsslkeystore", "truststore", "rpcssltruststore")) {
                String file = folder + "/" + name + ".jks";
                KeyStore store = open(file, password);
                String alias = store.aliases().nextElement();
                String line = file + " " + alias + " ";
                if (store.isCertificateEntry(alias)) {
                    line += "trusted";
                } else {
                    byte[] expected = Files.readAllBytes(Path.of(alias + ".key"));
                    boolean same = Arrays.equals(expected, store.getKey(alias, password).getEncoded());
                    List<Certificate> chain = Arrays.asList(store.getCertificateChain(alias));
                    line += chain.size() + (same ? " same" : " other");
                    if (chain.size() > 1) {
                        line += " " + judge(chain, root);
                    }
                }
                System.out.println(line);
            }
        }
        X509Certificate root = (X509Certificate) open("authority/truststore.jks", password).getCertificate("cordarootca");
        for (String name : List.of("own.pem", "foreign.pem")) {
            try (FileInputStream file = new FileInputStream(name)) {
                CertificateFactory factory = CertificateFactory.getInstance("X.509");
                System.out.println(name + " " + judge(new ArrayList<>(factory.generateCertificates(file)), root));
            }
        }
        try {
            open("authority/nodekeystore.jks", "another".toCharArray());
        } catch (IOException refused) {
            System.out.println("wrong password refused");
        }
    }

    private static KeyStore open(String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("JKS");
        try (FileInputStream content = new FileInputStream(file)) {
            store.load(content, password);
        }
        return store;
    }

    private static String judge(List<Certificate> chain, X509Certificate root) throws Exception {
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.setRevocationEnabled(false);
        try {
            CertPathValidator.getInstance("PKIX")
                    .validate(CertificateFactory.getInstance("X.509").generateCertPath(chain), parameters);
            return "valid";
        } catch (CertPathValidatorException refused) {
            return "refused";
        }
    }
}
