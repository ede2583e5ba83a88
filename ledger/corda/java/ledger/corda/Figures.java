package ledger.corda;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.MBeanServerFactory;
import javax.management.ObjectName;

/** What the node counts, as its own beans tell it; read in its process, since its filter lets no remote reader in. */
final class Figures {
    /** STARTING, STARTED or STOPPING; an empty text before the node tells. */
    String status() {
        for (MBeanServer server : servers()) {
            try {
                return String.valueOf(server.getAttribute(new ObjectName("net.corda:type=Node,name=Status"), "Value"));
            } catch (JMException notThereYet) {
                continue;
            }
        }
        return "";
    }

    Map<String, Object> read() {
        Map<String, Object> pool = new LinkedHashMap<>();
        pool.put("total", sum("net.corda:type=HikariPool-*,name=pool.TotalConnections", "Value"));
        pool.put("active", sum("net.corda:type=HikariPool-*,name=pool.ActiveConnections", "Value"));
        pool.put("pending", sum("net.corda:type=HikariPool-*,name=pool.PendingConnections", "Value"));
        Map<String, Object> flows = new LinkedHashMap<>();
        flows.put("started", sum("net.corda:type=Flows,name=Started", "Count"));
        flows.put("finished", sum("net.corda:type=Flows,name=Finished", "Count"));
        flows.put("inFlight", sum("net.corda:type=Flows,name=InFlight", "Value"));
        flows.put("succeeded", sum("net.corda:type=FlowDuration,name=Success.*", "Count"));
        flows.put("failed", sum("net.corda:type=FlowDuration,name=Failure.*", "Count"));
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("identity", System.getProperty("ledger.identity"));
        all.put("epoch", Long.getLong("ledger.epoch"));
        all.put("status", status());
        all.put("pool", pool);
        all.put("flows", flows);
        return all;
    }

    private static long sum(String pattern, String attribute) {
        long sum = 0;
        for (MBeanServer server : servers()) {
            try {
                Set<ObjectName> names = server.queryNames(new ObjectName(pattern), null);
                for (ObjectName name : names) {
                    Object value = server.getAttribute(name, attribute);
                    sum += value instanceof Number ? ((Number) value).longValue() : 0;
                }
            } catch (JMException gone) {
                continue;
            }
        }
        return sum;
    }

    /** Those there are: to ask for the platform's own would make it, before the node has set its log manager. */
    private static List<MBeanServer> servers() {
        return new ArrayList<>(MBeanServerFactory.findMBeanServer(null));
    }
}
