package ledger.corda;

import com.typesafe.config.ConfigRenderOptions;
import com.typesafe.config.ConfigValueFactory;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;

/**
 * The agent's HTTP endpoint on the VM's loopback: {@code GET /} returns the metrics as JSON, {@code POST /close-rpc} closes
 * the load-balanced RPC port, {@code POST /restart} ends the node at once for a restart. Requires the token in the
 * environment.
 */
final class Monitoring extends Thread {
    private static final int ANSWER_MILLISECONDS = 2000;
    private static final int MAX_HEADERS = 50;
    private static final long PAUSE_NANOSECONDS = 10_000_000;
    private final ServerSocket server = new ServerSocket();
    private final NodeMetrics metrics;
    private final RpcForwarder rpcForwarder;
    private final byte[] token;

    Monitoring(Address address, NodeMetrics metrics, RpcForwarder rpcForwarder) throws IOException {
        super("ledger-monitoring");
        setDaemon(true);
        this.metrics = metrics;
        this.rpcForwarder = rpcForwarder;
        token = ("Bearer " + System.getenv("LEDGER_MONITORING_TOKEN")).getBytes(StandardCharsets.UTF_8);
        server.setReuseAddress(true);
        server.bind(address.socket);
    }

    @Override
    public void run() {
        while (!server.isClosed()) {
            try (Socket client = server.accept()) {
                client.setSoTimeout(ANSWER_MILLISECONDS);
                answer(client);
            } catch (IOException gone) {
                // The client is gone, or the server has no file descriptor left.
                LockSupport.parkNanos(PAUSE_NANOSECONDS);
            } catch (Throwable failed) {
                // The next answer may succeed; the agent ends a node that gives none.
                Node.log("<3>ERROR Monitoring: no answer: " + failed);
            }
        }
    }

    private void answer(Socket client) throws IOException {
        BufferedReader reader =
                new BufferedReader(new InputStreamReader(client.getInputStream(), StandardCharsets.UTF_8));
        String request = String.valueOf(reader.readLine());
        String authorization = "";
        String header = reader.readLine();
        for (int count = 0; header != null && !header.isEmpty() && count < MAX_HEADERS; count++) {
            if (header.toLowerCase().startsWith("authorization:")) {
                authorization = header.substring("authorization:".length()).trim();
            }
            header = reader.readLine();
        }
        if (!MessageDigest.isEqual(token, authorization.getBytes(StandardCharsets.UTF_8))) {
            write(client, "401 Unauthorized", "{}");
        } else if (request.startsWith("GET / ")) {
            Map<String, Object> answer = metrics.read();
            answer.put("bridges", DisconnectedBridges.read());
            write(client, "200 OK", ConfigValueFactory.fromMap(answer).render(ConfigRenderOptions.concise()));
        } else if (request.startsWith("POST /close-rpc ")) {
            if (rpcForwarder != null) {
                rpcForwarder.close();
            }
            write(client, "200 OK", "{}");
        } else if (request.startsWith("POST /restart ")) {
            NodeRestart.exit();
        } else {
            write(client, "404 Not Found", "{}");
        }
    }

    private static void write(Socket client, String status, String json) throws IOException {
        byte[] body = json.getBytes(StandardCharsets.UTF_8);
        OutputStream out = client.getOutputStream();
        out.write(
                ("HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nContent-Length: " + body.length
                                + "\r\nConnection: close\r\n\r\n")
                        .getBytes(StandardCharsets.UTF_8));
        out.write(body);
        out.flush();
    }
}
