package decentralizedtrust.creditrecord.workflows;

import net.corda.core.ClientRelevantError;
import net.corda.core.flows.FlowException;

/** The reason, in one line, why a request was not processed. Unlike other errors, its text reaches RPC clients. */
public final class Refusal extends FlowException implements ClientRelevantError {
    private final boolean retryable;

    /** @param retryable whether the same request may succeed later */
    public Refusal(String message, boolean retryable) {
        super(message);
        this.retryable = retryable;
    }

    static Refusal of(String message, Object... values) {
        return new Refusal(String.format(message, values), false);
    }

    static Refusal retryable(String message, Object... values) {
        return new Refusal(String.format(message, values) + "; ask again", true);
    }

    public boolean isRetryable() {
        return retryable;
    }
}
