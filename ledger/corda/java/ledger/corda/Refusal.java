package ledger.corda;

/** What was asked can't be done; the message says why, in one line. */
final class Refusal extends Exception {
    private static final long serialVersionUID = 1L;

    Refusal(String message) {
        super(message);
    }
}
