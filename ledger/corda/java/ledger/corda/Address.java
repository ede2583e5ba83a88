package ledger.corda;

import java.net.InetSocketAddress;

/** {@code HOST:PORT}. */
final class Address {
    final InetSocketAddress socket;

    Address(String text) {
        int colon = text.lastIndexOf(':');
        socket = new InetSocketAddress(text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    }
}
