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
@Plugin(name = "NotarisationCount", category = "Core", elementType = "appender")
public final class NotarisationCount extends AbstractAppender {
    private static final String SIGNED = "Notary responded (";
    /** The second text: {@code FinalityFlow} logs it up to 4.10 if there is nothing to spend. */
    private static final Pattern DONE =
            Pattern.compile(Pattern.quote(SIGNED) + ".*\\)\\.|No need to notarise this transaction\\.");
    private static final AtomicLong COUNT = new AtomicLong();
    private static final boolean SUPPORTED = supported();

    private NotarisationCount() {
        super("notarisations", null, null, true, Property.EMPTY_ARRAY);
    }

    @PluginFactory
    public static NotarisationCount create() {
        return new NotarisationCount();
    }

    @Override
    public void append(LogEvent event) {
        if (DONE.matcher(event.getMessage().getFormattedMessage()).matches()) {
            COUNT.incrementAndGet();
        }
    }

    /** The count since the start; null if this version of Corda logs other texts. */
    static Long read() {
        return SUPPORTED ? COUNT.get() : null;
    }

    private static boolean supported() {
        InputStream client = NotarisationCount.class.getResourceAsStream("/net/corda/core/flows/NotaryFlow$Client.class");
        if (client == null) {
            return false;
        }
        try (Scanner text = new Scanner(client, "ISO-8859-1")) {
            return text.findWithinHorizon(Pattern.quote(SIGNED), 0) != null;
        }
    }
}
