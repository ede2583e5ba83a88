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
 * What a node tells of what its flows do. Each line of the input is a command: {@code flow TEXT} has a flow log a text, {@code
 * failed CLASS} counts three failures of it, {@code warn} logs two lines with an exception, {@code blanks N} logs N of them in
 * a message and in what was thrown, {@code asked} prints the status of two HTTP answers, before the first of which the node's
 * beans fail; {@code told} prints the figures.
 */
public final class Telling {
    private Telling() {}

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
                    LoggerFactory.getLogger("net.corda.Telling")
                            .warn("one\ntwo", new IllegalStateException("three\nfour", new Exception("five")));
                    LoggerFactory.getLogger("net.corda.Telling").error("six\0<2>and a half");
                    LoggerFactory.getLogger("net.corda.Telling").info("seven");
                    break;
                case "blanks":
                    String blanks = new String(new char[Integer.parseInt(command[1])]).replace('\0', ' ');
                    LoggerFactory.getLogger("net.corda.Telling")
                            .warn("one" + blanks + ".", new IllegalStateException("two" + blanks + "."));
                    break;
                case "asked":
                    ManagementFactory.getPlatformMBeanServer()
                            .registerMBean(new Status(), new ObjectName("net.corda:type=Node,name=Status"));
                    Address address = free();
                    new Monitoring(address, new Figures(), null).start();
                    System.out.println("asked " + asked(address));
                    System.out.println("asked " + asked(address));
                    break;
                default:
                    // What is logged is appended by another thread.
                    LogManager.shutdown();
                    System.out.println(
                            "told " + ConfigValueFactory.fromMap(new Figures().read()).render(ConfigRenderOptions.concise()));
            }
        }
    }

    private static Address free() throws IOException {
        try (ServerSocket free = new ServerSocket(0)) {
            return new Address("127.0.0.1:" + free.getLocalPort());
        }
    }

    private static String asked(Address address) throws IOException {
        try (Socket client = new Socket(address.socket.getAddress(), address.socket.getPort())) {
            client.setSoTimeout(10_000);
            String token = "Bearer " + System.getenv("LEDGER_MONITORING_TOKEN");
            client.getOutputStream().write(("GET / HTTP/1.1\r\nAuthorization: " + token + "\r\n\r\n").getBytes());
            return new BufferedReader(new InputStreamReader(client.getInputStream())).readLine();
        }
    }

    /** As Corda's status is seen. */
    public interface StatusMBean {
        Object getValue();
    }

    /** A text that can't be had the first time. */
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

    /** As Corda's meters are seen. */
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
    public static final class Begun extends FlowLogic<Void> {
        @Override
        public Void call() {
            return null;
        }
    }

    /** One that answers another node's. */
    @InitiatedBy(Begun.class)
    public static final class Answering extends FlowLogic<Void> {
        @Override
        public Void call() {
            return null;
        }
    }
}
