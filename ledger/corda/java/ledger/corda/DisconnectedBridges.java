package ledger.corda;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Property;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.config.plugins.PluginFactory;

/** Bridges to other nodes that have no connection, from Corda's log. Corda makes a bridge at the first message to a node. */
@Plugin(name = "DisconnectedBridges", category = "Core", elementType = "appender")
public final class DisconnectedBridges extends AbstractAppender {
    private static final int MOST = 200;
    private static final int MOST_CHARACTERS = 200;
    private static final Map<String, Map<String, Object>> DOWN = new LinkedHashMap<>();

    private DisconnectedBridges() {
        super("bridges", null, null, true, Property.EMPTY_ARRAY);
    }

    @PluginFactory
    public static DisconnectedBridges create() {
        return new DisconnectedBridges();
    }

    @Override
    public void append(LogEvent event) {
        String what = event.getMessage().getFormattedMessage();
        String names = event.getContextData().getValue("legalNames");
        synchronized (DOWN) {
            if (names == null) {
                failed(event, what);
            } else if (what.equals("Create new AMQP bridge") || what.equals("Bridge Disconnected")) {
                DOWN.computeIfAbsent(names, DisconnectedBridges::down);
            } else if (what.equals("Bridge Connected") || what.equals("Stopping AMQP bridge")) {
                DOWN.remove(names);
            }
        }
    }

    private static Map<String, Object> down(String names) {
        Map<String, Object> bridge = new LinkedHashMap<>();
        bridge.put("names", names);
        bridge.put("since", System.currentTimeMillis());
        bridge.put("reason", "");
        return bridge;
    }

    /** Notes why an own handshake failed; a server's has no names, and a closed channel gives no reason. */
    private static void failed(LogEvent event, String why) {
        Map<String, Object> bridge = DOWN.get(event.getContextData().<String>getValue("allowedRemoteLegalNames"));
        if (bridge != null && event.getLevel().isMoreSpecificThan(Level.WARN) && !why.startsWith("Closing")) {
            bridge.put("reason", why.substring(0, Math.min(why.length(), MOST_CHARACTERS)));
        }
    }

    static List<Map<String, Object>> read() {
        List<Map<String, Object>> all = new ArrayList<>();
        synchronized (DOWN) {
            DOWN.values().stream().limit(MOST).forEach(each -> all.add(new LinkedHashMap<>(each)));
        }
        return all;
    }
}
