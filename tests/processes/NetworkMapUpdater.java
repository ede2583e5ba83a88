package net.corda.node.services.network;

/** Stands in for Corda's class: the stack trace has its name. */
public final class NetworkMapUpdater {
    public void process(Runnable update) {
        update.run();
    }
}
