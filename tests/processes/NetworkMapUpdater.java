package net.corda.node.services.network;

/** In the place of Corda's own, whose name the stack shows. */
public final class NetworkMapUpdater {
    public void process(Runnable update) {
        update.run();
    }
}
