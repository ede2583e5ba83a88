package ledger.corda;

import java.io.InputStream;
import java.util.Scanner;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Pattern;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Property;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.config.plugins.PluginFactory;

/** Counts the transactions that this node had notarised, from Corda's log: one node does so per transaction. */
@Plugin(name = "Notarised", category = "Core", elementType = "appender")
public final class Notarised extends AbstractAppender {
    private static final String SIGNED = "Notary responded (";
    /** The second text: {@code FinalityFlow} logs it up to 4.10 if there is nothing to spend. */
    private static final Pattern DONE =
            Pattern.compile(Pattern.quote(SIGNED) + ".*\\)\\.|No need to notarise this transaction\\.");
    private static final AtomicLong COUNT = new AtomicLong();
    private static final boolean KNOWN = known();

    private Notarised() {
        super("notarised", null, null, true, Property.EMPTY_ARRAY);
    }

    @PluginFactory
    public static Notarised create() {
        return new Notarised();
    }

    @Override
    public void append(LogEvent event) {
        if (DONE.matcher(event.getMessage().getFormattedMessage()).matches()) {
            COUNT.incrementAndGet();
        }
    }

    /** The count since the start; null if this version of Corda logs other texts. */
    static Long read() {
        return KNOWN ? COUNT.get() : null;
    }

    private static boolean known() {
        InputStream client = Notarised.class.getResourceAsStream("/net/corda/core/flows/NotaryFlow$Client.class");
        if (client == null) {
            return false;
        }
        try (Scanner text = new Scanner(client, "ISO-8859-1")) {
            return text.findWithinHorizon(Pattern.quote(SIGNED), 0) != null;
        }
    }
}
