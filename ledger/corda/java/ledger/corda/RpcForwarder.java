package ledger.corda;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.Semaphore;

/**
 * The RPC port that all nodes of a bank share, so that the load balancer can balance connections over them; open from the
 * node's start until its drain. It forwards TLS to the node's own port, since a node binds only one.
 */
final class RpcForwarder extends Thread {
    private static final int MAX_CONNECTIONS = 256;
    private static final int CONNECT_MILLISECONDS = 5000;
    private static final int LOOK_MILLISECONDS = 500;
    private static final int BUFFER_BYTES = 16384;
    private final Address listen;
    private final Address to;
    private final NodeMetrics metrics;
    private final Semaphore room = new Semaphore(MAX_CONNECTIONS);
    private ServerSocket server;
    private boolean left;

    RpcForwarder(Address listen, Address to, NodeMetrics metrics) {
        super("ledger-rpc-forwarder");
        setDaemon(true);
        this.listen = listen;
        this.to = to;
        this.metrics = metrics;
    }

    /** Accepts no more connections; existing ones go on. */
    synchronized void close() throws IOException {
        left = true;
        if (server != null) {
            server.close();
        }
    }

    @Override
    public void run() {
        try {
            while (!metrics.status().equals("STARTED")) {
                Thread.sleep(LOOK_MILLISECONDS);
            }
            ServerSocket port = open();
            while (port != null && !port.isClosed()) {
                serve(port);
            }
        } catch (IOException error) {
            Node.log("<3>ledger: " + listen.socket + ": " + error.getMessage() + "; wanted to listen there");
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized ServerSocket open() throws IOException {
        if (left) {
            return null;
        }
        server = new ServerSocket();
        server.setReuseAddress(true);
        server.bind(listen.socket);
        return server;
    }

    private void serve(ServerSocket port) {
        Socket client = null;
        boolean admitted = false;
        boolean begun = false;
        try {
            client = port.accept();
            admitted = room.tryAcquire();
            if (admitted) {
                Socket accepted = client;
                thread(() -> connect(accepted)).start();
                begun = true;
            }
        } catch (IOException | OutOfMemoryError gone) {
            // The port is closed, or no thread is available.
        } finally {
            if (!begun) {
                close(client);
                if (admitted) {
                    room.release();
                }
            }
        }
    }

    private void connect(Socket client) {
        Socket node = new Socket();
        try {
            client.setKeepAlive(true);
            client.setTcpNoDelay(true);
            node.setTcpNoDelay(true);
            node.connect(to.socket, CONNECT_MILLISECONDS);
            Thread back = thread(() -> copy(node, client));
            back.start();
            copy(client, node);
            back.join();
        } catch (IOException gone) {
            // Only this connection ends.
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        } finally {
            close(node);
            close(client);
            room.release();
        }
    }

    /** Copies until one side ends, then closes both: TLS has no half-closed connections. */
    private static void copy(Socket from, Socket to) {
        byte[] buffer = new byte[BUFFER_BYTES];
        try {
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
                out.write(buffer, 0, count);
            }
        } catch (IOException gone) {
            // Ends like a regular close.
        } finally {
            close(from);
            close(to);
        }
    }

    private static Thread thread(Runnable work) {
        Thread made = new Thread(work, "ledger-rpc-connection");
        made.setDaemon(true);
        return made;
    }

    private static void close(Socket socket) {
        if (socket != null) {
            try {
                socket.close();
            } catch (IOException gone) {
                return;
            }
        }
    }
}
