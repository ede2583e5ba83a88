package ledger.corda;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.Semaphore;

/**
 * A second door to the node's RPC, since the node itself binds one. All of a bank's nodes have this one on the same
 * port, for the balancer to spread connections over; open once the node has started, shut when it is to take nothing
 * new. What passes is TLS between the application and the node.
 */
final class Spread extends Thread {
    private static final int MAX_CONNECTIONS = 256;
    private static final int CONNECT_MILLISECONDS = 5000;
    private static final int LOOK_MILLISECONDS = 500;
    private static final int BUFFER_BYTES = 16384;
    private final Address listen;
    private final Address to;
    private final Figures figures;
    private final Semaphore room = new Semaphore(MAX_CONNECTIONS);
    private ServerSocket server;
    private boolean left;

    Spread(Address listen, Address to, Figures figures) {
        super("ledger-spread");
        setDaemon(true);
        this.listen = listen;
        this.to = to;
        this.figures = figures;
    }

    /** Takes no connection any more; those there are go on. */
    synchronized void close() throws IOException {
        left = true;
        if (server != null) {
            server.close();
        }
    }

    @Override
    public void run() {
        try {
            while (!figures.status().equals("STARTED")) {
                Thread.sleep(LOOK_MILLISECONDS);
            }
            ServerSocket door = open();
            while (door != null && !door.isClosed()) {
                serve(door);
            }
        } catch (IOException error) {
            System.err.println("ledger: " + listen.socket + ": " + error.getMessage() + "; wanted to listen there");
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

    private void serve(ServerSocket door) {
        Socket client = null;
        boolean admitted = false;
        boolean begun = false;
        try {
            client = door.accept();
            admitted = room.tryAcquire();
            if (admitted) {
                Socket accepted = client;
                thread(() -> connect(accepted)).start();
                begun = true;
            }
        } catch (IOException | OutOfMemoryError gone) {
            // The door is shut, or there is no thread to be had: then others may still be served.
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
            // That connection's end, not the node's.
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        } finally {
            close(node);
            close(client);
            room.release();
        }
    }

    /** Until one of them ends, and with it both: no TLS connection goes on half, and its place is needed. */
    private static void copy(Socket from, Socket to) {
        byte[] buffer = new byte[BUFFER_BYTES];
        try {
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
                out.write(buffer, 0, count);
            }
        } catch (IOException gone) {
            // As good an end as any.
        } finally {
            close(from);
            close(to);
        }
    }

    private static Thread thread(Runnable work) {
        Thread made = new Thread(work, "ledger-spread-connection");
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
