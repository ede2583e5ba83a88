package decentralizedtrust.creditrecord.contracts;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotEquals;
import static org.junit.Assert.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import net.corda.core.identity.CordaX500Name;
import org.junit.Test;

/** The vectors are those of the program that deploys the banks, and of the authority that certifies their names. */
public class LegalNamesTest {
    private final JsonNode vectors = read();

    private static JsonNode read() {
        try {
            return new ObjectMapper().readTree(LegalNamesTest.class.getResource("/legal-names.json"));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    public void certifiedNamesAreAccepted() {
        for (JsonNode each : vectors.get("accepted")) {
            CordaX500Name name = CordaX500Name.parse(each.get("text").asText());
            assertTrue(name + " is a bank's", LegalNames.isPlain(name));
            assertEquals("one spelling", each.get("canonical").asText(), name.toString());
        }
    }

    @Test
    public void namesThatLookLikeAnotherAreRefused() {
        for (JsonNode each : vectors.get("refused")) {
            assertFalse(each.get("what").asText(), isTaken(each.get("text").asText()));
        }
    }

    private static boolean isTaken(String text) {
        try {
            return LegalNames.isPlain(CordaX500Name.parse(text));
        } catch (IllegalArgumentException e) {
            return false;
        }
    }

    @Test
    public void namesThatDifferOnlyInCaseAreEqualToTheAuthority() {
        for (JsonNode each : vectors.get("equal")) {
            assertEquals(key(each.get(0)), key(each.get(1)));
        }
        for (JsonNode each : vectors.get("different")) {
            assertNotEquals(key(each.get(0)), key(each.get(1)));
        }
    }

    private static String key(JsonNode name) {
        return LegalNames.key(CordaX500Name.parse(name.asText()));
    }

    @Test
    public void banksAreComparedExactly() {
        CordaX500Name bank = CordaX500Name.parse("O=Bank A, L=London, C=GB");
        assertEquals(bank, CreditRecord.bankOf(CordaX500Name.parse("OU=node-99, O=Bank A, L=London, C=GB")));
        for (String other : new String[] {"O=BANK A, L=London, C=GB", "O=Bank A, L=london, C=GB", "O=Bank A, L=London, C=IE",
            "O=Bank A, L=London, ST=Kent, C=GB", "O=Bank \u0410, L=London, C=GB"}) {
            assertNotEquals(bank, CreditRecord.bankOf(CordaX500Name.parse(other)));
        }
    }
}
