package ledger.corda;

import net.corda.node.Corda;

/**
 * A Corda node that tells what it does: {@code Node ARGUMENTS}, all of them the node's. Properties, none of them
 * secret, say where it listens besides the node itself; see {@link Monitoring} and {@link Spread}.
 */
public final class Node {
    private Node() {}

    public static void main(String[] arguments) throws Exception {
        Figures figures = new Figures();
        Spread spread = null;
        String listen = System.getProperty("ledger.spread.listen");
        if (listen != null) {
            spread = new Spread(new Address(listen), new Address(System.getProperty("ledger.spread.to")), figures);
            spread.start();
        }
        // Bound before the node begins: a port that is taken ends the process at once.
        new Monitoring(new Address(System.getProperty("ledger.monitoring")), figures, spread).start();
        Deafness.watch();
        Corda.main(arguments);
    }
}
