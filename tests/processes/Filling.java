package ledger.corda;

import java.util.ArrayList;
import java.util.List;

/** {@code Filling KIND}: what may become of a node's heap while it is watched, with the patience of ten times what this machine takes to fill it. */
public final class Filling {
    private static final int BLOCK = 1 << 12;
    private static final int MOST = 1 << 16;

    private Filling() {}

    public static void main(String[] arguments) throws Exception {
        long start = System.nanoTime();
        fill(new ArrayList<>(MOST));
        long patience = Math.max(3000, (System.nanoTime() - start) / 1_000_000 * 10);
        System.gc();
        new Heap(100, patience).start();
        switch (arguments[0]) {
            case "refused":
                refused();
                break;
            case "burst":
                for (int count = 0; count < 3; count++) {
                    fill(new ArrayList<>(MOST));
                    Thread.sleep(1000);
                }
                break;
            default:
                List<byte[]> kept = new ArrayList<>(MOST);
                fill(kept);
                for (int freed = kept.size() / 50; freed > 0; freed--) {
                    kept.remove(kept.size() - 1);
                }
                for (long end = System.nanoTime() + patience * 3_000_000; System.nanoTime() < end; ) {
                    // Short-lived, as all that a node does.
                    churn(kept);
                }
        }
        Thread.sleep(3000);
        System.out.println("lives");
    }

    private static void churn(List<byte[]> kept) {
        try {
            kept.set(0, new byte[BLOCK]);
        } catch (OutOfMemoryError full) {
            return;
        }
    }

    private static void refused() {
        try {
            System.out.println(new byte[Integer.MAX_VALUE].length);
        } catch (OutOfMemoryError refused) {
            return;
        }
    }

    private static void fill(List<byte[]> kept) {
        try {
            while (true) {
                kept.add(new byte[BLOCK]);
            }
        } catch (OutOfMemoryError full) {
            return;
        }
    }
}
