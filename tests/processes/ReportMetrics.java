package ledger.corda;

import com.typesafe.config.ConfigRenderOptions;
import com.typesafe.config.ConfigValueFactory;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Scanner;
import javax.management.ObjectName;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.InitiatedBy;
import org.apache.logging.log4j.LogManager;
import org.slf4j.LoggerFactory;

/**
 * Logs and counts as a node does. Each line of the input is a command: {@code flow TEXT} logs TEXT as a flow, {@code failed
 * CLASS} counts three failures of a flow, {@code warn} logs two lines with an exception, {@code blanks N} logs N blanks in a
 * message and in an exception, {@code get} prints the status lines of two HTTP requests, during the first of which the node's
 * MBeans fail; {@code metrics} prints the metrics.
 */
public final class ReportMetrics {
    private ReportMetrics() {}

    public static void main(String[] arguments) throws Exception {
        Scanner input = new Scanner(System.in);
        while (input.hasNextLine()) {
            String[] command = input.nextLine().split(" ", 2);
            switch (command[0]) {
                case "flow":
                    LoggerFactory.getLogger("net.corda.flow").info(command[1]);
                    break;
                case "failed":
                    ManagementFactory.getPlatformMBeanServer()
                            .registerMBean(
                                    new Timer(),
                                    new ObjectName("net.corda:type=FlowDuration,name=Failure." + command[1]));
                    break;
                case "warn":
                    LoggerFactory.getLogger("net.corda.ReportMetrics")
                            .warn("one\ntwo", new IllegalStateException("three\nfour", new Exception("five")));
                    LoggerFactory.getLogger("net.corda.ReportMetrics").error("six\0<2>and a half");
                    LoggerFactory.getLogger("net.corda.ReportMetrics").info("seven");
                    break;
                case "blanks":
                    String blanks = new String(new char[Integer.parseInt(command[1])]).replace('\0', ' ');
                    LoggerFactory.getLogger("net.corda.ReportMetrics")
                            .warn("one" + blanks + ".", new IllegalStateException("two" + blanks + "."));
                    break;
                case "get":
                    ManagementFactory.getPlatformMBeanServer()
                            .registerMBean(new Status(), new ObjectName("net.corda:type=Node,name=Status"));
                    Address address = free();
                    new Monitoring(address, new NodeMetrics(), null).start();
                    System.out.println("get " + get(address));
                    System.out.println("get " + get(address));
                    break;
                default:
                    // What is logged is appended by another thread.
                    LogManager.shutdown();
                    System.out.println(
                            "metrics " + ConfigValueFactory.fromMap(new NodeMetrics().read()).render(ConfigRenderOptions.concise()));
            }
        }
    }

    private static Address free() throws IOException {
        try (ServerSocket free = new ServerSocket(0)) {
            return new Address("127.0.0.1:" + free.getLocalPort());
        }
    }

    private static String get(Address address) throws IOException {
        try (Socket client = new Socket(address.socket.getAddress(), address.socket.getPort())) {
            client.setSoTimeout(10_000);
            String token = "Bearer " + System.getenv("LEDGER_MONITORING_TOKEN");
            client.getOutputStream().write(("GET / HTTP/1.1\r\nAuthorization: " + token + "\r\n\r\n").getBytes());
            return new BufferedReader(new InputStreamReader(client.getInputStream())).readLine();
        }
    }

    /** Corda's interface of the node's status. */
    public interface StatusMBean {
        Object getValue();
    }

    /** A status that can't be read the first time. */
    public static final class Status implements StatusMBean {
        private boolean failed;

        @Override
        public Object getValue() {
            return this;
        }

        @Override
        public String toString() {
            if (failed) {
                return "STARTED";
            }
            failed = true;
            throw new NoClassDefFoundError("status");
        }
    }

    /** Corda's interface of a counter. */
    public interface TimerMBean {
        long getCount();
    }

    public static final class Timer implements TimerMBean {
        @Override
        public long getCount() {
            return 3;
        }
    }

    /** A flow that an application starts. */
    public static final class Initiator extends FlowLogic<Void> {
        @Override
        public Void call() {
            return null;
        }
    }

    /** The flow that responds to it. */
    @InitiatedBy(Initiator.class)
    public static final class Responder extends FlowLogic<Void> {
        @Override
        public Void call() {
            return null;
        }
    }
}
