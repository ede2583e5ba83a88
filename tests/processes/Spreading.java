package ledger.corda;

import java.lang.management.ManagementFactory;
import javax.management.ObjectName;

/** {@code Spreading LISTEN TO}: the door of {@link Spread} alone, before a node that has started; ends with its input. */
public final class Spreading {
    private Spreading() {}

    /** What a node tells of itself. */
    public interface StatusMBean {
        String getValue();
    }

    /** That it has started. */
    public static final class Status implements StatusMBean {
        @Override
        public String getValue() {
            return "STARTED";
        }
    }

    public static void main(String[] arguments) throws Exception {
        ManagementFactory.getPlatformMBeanServer()
                .registerMBean(new Status(), new ObjectName("net.corda:type=Node,name=Status"));
        new Spread(new Address(arguments[0]), new Address(arguments[1]), new Figures()).start();
        while (System.in.read() >= 0) {
            continue;
        }
    }
}
