package ledger.corda;

import java.util.ArrayList;
import java.util.List;

/**
 * {@code FillHeap KIND}: fills the heap while {@link HeapWatch} runs, whose limit is ten times what this machine takes to
 * fill it. KIND is {@code refused}, one allocation that fails; {@code burst}, three times full and freed; or {@code stays}.
 */
public final class FillHeap {
    private static final int BLOCK = 1 << 12;
    private static final int MOST = 1 << 16;

    private FillHeap() {}

    public static void main(String[] arguments) throws Exception {
        long start = System.nanoTime();
        fill(new ArrayList<>(MOST));
        long limit = Math.max(3000, (System.nanoTime() - start) / 1_000_000 * 10);
        System.gc();
        new HeapWatch(100, limit).start();
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
                List<byte[]> blocks = new ArrayList<>(MOST);
                fill(blocks);
                for (int freed = blocks.size() / 50; freed > 0; freed--) {
                    blocks.remove(blocks.size() - 1);
                }
                for (long end = System.nanoTime() + limit * 3_000_000; System.nanoTime() < end; ) {
                    // Short-lived objects, such as a node makes.
                    churn(blocks);
                }
        }
        Thread.sleep(3000);
        System.out.println("runs");
    }

    private static void churn(List<byte[]> blocks) {
        try {
            blocks.set(0, new byte[BLOCK]);
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

    private static void fill(List<byte[]> blocks) {
        try {
            while (true) {
                blocks.add(new byte[BLOCK]);
            }
        } catch (OutOfMemoryError full) {
            return;
        }
    }
}
