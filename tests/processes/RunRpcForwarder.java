package ledger.corda;

import java.lang.management.ManagementFactory;
import javax.management.ObjectName;

/** {@code RunRpcForwarder LISTEN TO}: runs {@link RpcForwarder} alone, for a node that has started; ends with its input. */
public final class RunRpcForwarder {
    private RunRpcForwarder() {}

    /** Corda's interface of the node's status. */
    public interface StatusMBean {
        String getValue();
    }

    /** The status of a node that has started. */
    public static final class Status implements StatusMBean {
        @Override
        public String getValue() {
            return "STARTED";
        }
    }

    public static void main(String[] arguments) throws Exception {
        ManagementFactory.getPlatformMBeanServer()
                .registerMBean(new Status(), new ObjectName("net.corda:type=Node,name=Status"));
        new RpcForwarder(new Address(arguments[0]), new Address(arguments[1]), new NodeMetrics()).start();
        while (System.in.read() >= 0) {
            continue;
        }
    }
}
