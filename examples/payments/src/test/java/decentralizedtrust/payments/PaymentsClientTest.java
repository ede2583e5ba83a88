package decentralizedtrust.payments;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.math.BigDecimal;
import java.util.Currency;
import org.junit.Test;

public class PaymentsClientTest {
    private static long coins(String amount, String currency) {
        return PaymentsClient.amount(new BigDecimal(amount), Currency.getInstance(currency)).getQuantity();
    }

    @Test
    public void anAmountIsCountedInTheSmallestCoinsOfItsCurrency() {
        assertEquals(1250, coins("12.5", "GBP"));
        assertEquals(1200, coins("12.000", "GBP"));
        assertEquals(12, coins("12", "JPY"));
        assertEquals(1, coins("0.001", "KWD"));
        assertEquals(Long.MAX_VALUE, coins("92233720368547758.07", "EUR"));
    }

    @Test
    public void aFractionOfTheSmallestCoinIsRefused() {
        assertRefused("0.005", "GBP");
        assertRefused("1.5", "JPY");
    }

    @Test
    public void amountsOfZeroOrLessAreRefused() {
        assertRefused("0", "GBP");
        assertRefused("-1", "GBP");
    }

    @Test
    public void anAmountBeyondTheLedgersRangeIsRefused() {
        assertRefused("92233720368547758.08", "EUR");
        assertRefused("1e999999999", "EUR");
    }

    private static void assertRefused(String amount, String currency) {
        String message = assertThrows(IllegalArgumentException.class, () -> coins(amount, currency)).getMessage();
        assertEquals(message, 0, message.indexOf("--amount is " + new BigDecimal(amount) + "; wanted"));
    }
}
