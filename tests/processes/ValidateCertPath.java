import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Date;
import java.util.EnumSet;
import java.util.List;

/**
 * Validates a certificate path as a node with hard-fail revocation checks does. Arguments: days ahead of now, the root, the
 * path. Prints {@code valid} or the reason.
 */
public final class ValidateCertPath {
    public static void main(String[] arguments) throws Exception {
        List<X509Certificate> certificates = new ArrayList<>();
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        for (int i = 1; i < arguments.length; i++) {
            try (FileInputStream file = new FileInputStream(arguments[i])) {
                certificates.add((X509Certificate) factory.generateCertificate(file));
            }
        }
        KeyStore trusted = KeyStore.getInstance("JKS");
        trusted.load(null, null);
        trusted.setCertificateEntry("root", certificates.remove(0));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOptions(
                EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(trusted, new X509CertSelector());
        parameters.addCertPathChecker(checker);
        parameters.setDate(new Date(System.currentTimeMillis() + Long.parseLong(arguments[0]) * 86_400_000));
        try {
            validator.validate(factory.generateCertPath(certificates), parameters);
            System.out.println("valid");
        } catch (CertPathValidatorException error) {
            System.out.println(error.getReason());
        }
    }
}
