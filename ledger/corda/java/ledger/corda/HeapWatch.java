package ledger.corda;

import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.util.List;

/** Ends a node whose heap stays full. One failed allocation does not end it: any message can cause one. */
final class HeapWatch extends Thread {
    /** EX_OSERR of sysexits.h: the machine's resources are used up. */
    static final int STATUS = 71;

    private static final double FULL = 0.9;
    private final MemoryPoolMXBean old = old();
    private final GarbageCollectorMXBean major;
    private final long lookMilliseconds;
    private final long limitNanoseconds;
    private long since;
    private long last;
    private long collected;
    private long filled;
    private long seen;

    HeapWatch(long lookMilliseconds, long limitMilliseconds) {
        super("ledger-heap");
        setDaemon(true);
        setPriority(MAX_PRIORITY);
        this.lookMilliseconds = lookMilliseconds;
        limitNanoseconds = limitMilliseconds * 1_000_000;
        // The JVM lists the major collector last.
        List<GarbageCollectorMXBean> collectors = ManagementFactory.getGarbageCollectorMXBeans();
        major = collectors.get(collectors.size() - 1);
        old.setCollectionUsageThreshold((long) (old.getUsage().getMax() * FULL));
    }

    @Override
    public void run() {
        while (true) {
            try {
                look();
                Runtime.getRuntime().halt(STATUS);
            } catch (InterruptedException stopped) {
                return;
            } catch (OutOfMemoryError full) {
                // If this fails too, the agent gets no answer and ends the node.
                continue;
            }
        }
    }

    private void look() throws InterruptedException {
        while (last - since < limitNanoseconds) {
            Thread.sleep(lookMilliseconds);
            long now = System.nanoTime();
            long collections = major.getCollectionCount();
            // Collections that left too much.
            long full = old.getCollectionUsageThresholdCount();
            if (!old.isCollectionUsageThresholdExceeded() || full - filled < collections - collected) {
                since = now;
                last = now;
                collected = collections;
                filled = full;
            } else if (collections > seen) {
                last = now;
            }
            seen = collections;
        }
    }

    /** The old generation is the only heap pool with a usage threshold. */
    private static MemoryPoolMXBean old() {
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            if (pool.getType() == MemoryType.HEAP && pool.isUsageThresholdSupported()) {
                return pool;
            }
        }
        throw new IllegalStateException("no old generation; wanted a collector that has one");
    }
}
