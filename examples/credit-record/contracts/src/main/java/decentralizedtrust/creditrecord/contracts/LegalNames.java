package decentralizedtrust.creditrecord.contracts;

import java.util.Locale;
import java.util.Objects;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import net.corda.core.identity.CordaX500Name;

/**
 * The legal names that a record may have: the same rule by which the network's authority certifies names. A bank is identified by
 * O, L, ST and C, compared exactly; a name that only looks the same is another bank's.
 */
public final class LegalNames {
    // Printable basic Latin, without the characters that X.500 gives a meaning.
    private static final Pattern PLAIN = Pattern.compile("[ -~&&[^,=+$\"'\\\\<>;#]]+");

    private LegalNames() {}

    /** Whether no letter in the name looks like another one. */
    public static boolean isPlain(CordaX500Name name) {
        return Stream.of(name.getCommonName(), name.getOrganisationUnit(), name.getOrganisation(), name.getLocality(),
                name.getState(), name.getCountry()).filter(Objects::nonNull).allMatch(value -> PLAIN.matcher(value).matches());
    }

    /** The same text for names that differ in case alone. */
    public static String key(CordaX500Name name) {
        return name.toString().toLowerCase(Locale.ROOT);
    }
}
