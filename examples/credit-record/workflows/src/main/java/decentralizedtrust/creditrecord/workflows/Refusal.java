package decentralizedtrust.creditrecord.workflows;

import net.corda.core.ClientRelevantError;
import net.corda.core.flows.FlowException;

/** Why a request was not done, in one line. A node tells its RPC clients so, unlike other errors. */
public final class Refusal extends FlowException implements ClientRelevantError {
    private final boolean again;

    /** @param again whether the same request may be done if it is made again */
    public Refusal(String message, boolean again) {
        super(message);
        this.again = again;
    }

    static Refusal of(String message, Object... values) {
        return new Refusal(String.format(message, values), false);
    }

    static Refusal askAgain(String message, Object... values) {
        return new Refusal(String.format(message, values) + "; ask again", true);
    }

    public boolean isAgain() {
        return again;
    }
}
