package ledger.corda;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.MBeanServerFactory;
import javax.management.ObjectName;
import net.corda.core.flows.InitiatedBy;
import net.corda.core.internal.notary.NotaryServiceFlow;
import net.corda.core.serialization.internal.SerializationEnvironment;
import net.corda.core.serialization.internal.SerializationEnvironmentKt;

/** The node's counters from its MBeans, read in its process, since its filter admits no remote reader. */
final class NodeMetrics {
    private static final String FAILED = "net.corda:type=FlowDuration,name=Failure.";

    /** STARTING, STARTED or STOPPING; empty before the node publishes it. */
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
        pool.put("timeouts", sum("net.corda:type=HikariPool-*,name=pool.ConnectionTimeoutRate", "Count"));
        Map<String, Object> flows = new LinkedHashMap<>();
        flows.put("failed", sum(FAILED + "*", "Count", name -> began(name.getKeyProperty("name"))));
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("identity", System.getProperty("ledger.identity"));
        all.put("epoch", Long.getLong("ledger.epoch"));
        all.put("status", status());
        all.put("pool", pool);
        all.put("flows", flows);
        all.put("transactions", NotarisationCount.read());
        all.put("followsMembers", SubscriptionErrors.followsMembers());
        return all;
    }

    private static long sum(String pattern, String attribute) {
        return sum(pattern, attribute, name -> true);
    }

    private static long sum(String pattern, String attribute, Predicate<ObjectName> counts) {
        long sum = 0;
        for (MBeanServer server : servers()) {
            try {
                Set<ObjectName> names = server.queryNames(new ObjectName(pattern), null);
                for (ObjectName name : names) {
                    if (!counts.test(name)) {
                        continue;
                    }
                    Object value = server.getAttribute(name, attribute);
                    sum += value instanceof Number ? ((Number) value).longValue() : 0;
                }
            } catch (JMException gone) {
                continue;
            }
        }
        return sum;
    }

    /** Whether the flow was initiated here: a responder's failure is counted at its initiator. */
    private static boolean began(String name) {
        SerializationEnvironment node = SerializationEnvironmentKt.getNodeSerializationEnv();
        try {
            // The CorDapps' class loader.
            ClassLoader loader =
                    node == null
                            ? NodeMetrics.class.getClassLoader()
                            : node.getP2pContext().getDeserializationClassLoader();
            Class<?> flow = Class.forName(name.substring(name.indexOf('.') + 1), false, loader);
            return !flow.isAnnotationPresent(InitiatedBy.class)
                    && !NotaryServiceFlow.class.isAssignableFrom(flow)
                    && !flow.getName().startsWith("net.corda.node.");
        } catch (ClassNotFoundException | LinkageError unknown) {
            return true;
        }
    }

    /** Existing servers only: the platform's would be created before the node has set its log manager. */
    private static List<MBeanServer> servers() {
        return new ArrayList<>(MBeanServerFactory.findMBeanServer(null));
    }
}
