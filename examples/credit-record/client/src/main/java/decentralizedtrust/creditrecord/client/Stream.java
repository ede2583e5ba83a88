package decentralizedtrust.creditrecord.client;

import decentralizedtrust.creditrecord.client.Connection.Unanswered;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract;
import decentralizedtrust.creditrecord.workflows.CreateRecord;
import decentralizedtrust.creditrecord.workflows.RecordCount;
import decentralizedtrust.creditrecord.workflows.Refusal;
import decentralizedtrust.creditrecord.workflows.UpdateRecord;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Supplier;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowLogic;
import net.corda.core.identity.CordaX500Name;

/**
 * Callers that each create a record, update it, create the next and so on, and count the answers. The digest can be compared with
 * the nodes' records afterwards: every answered request must be there exactly once.
 */
final class Stream {
    private final Supplier<Connection> connections;
    private final String run;
    private final List<CordaX500Name> readers;
    private final int versions;
    private final Consumer<Map<String, Object>> each;
    private final Consumer<String> refusals;

    private final Map<String, CreditRecord> latest = new ConcurrentHashMap<>();
    private final List<Long> latencies = new ArrayList<>();
    private long sent;
    private long attempts;
    private long refused;
    private long unanswered;
    private long lastAnswer;
    private long longestSilence;

    /**
     * @param run prefix of the persons' references
     * @param versions of each record
     * @param each is called with each answer
     * @param refusals is called with each request that was refused or not answered
     */
    Stream(Supplier<Connection> connections, String run, List<CordaX500Name> readers, int versions,
            Consumer<Map<String, Object>> each, Consumer<String> refusals) {
        this.connections = connections;
        this.run = run;
        this.readers = readers;
        this.versions = versions;
        this.each = each;
        this.refusals = refusals;
    }

    /** No request begins after {@code seconds}; those that have begun are ended. */
    Map<String, Object> perform(int callers, int seconds) throws InterruptedException {
        long start = System.nanoTime();
        long end = start + TimeUnit.SECONDS.toNanos(seconds);
        lastAnswer = start;
        List<Thread> threads = new ArrayList<>();
        for (int caller = 1; caller <= callers; caller++) {
            String prefix = run + "-" + caller;
            Thread thread = new Thread(() -> call(prefix, end), prefix);
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        double minutes = (System.nanoTime() - start) / 60e9;
        Collections.sort(latencies);
        RecordCount expected = RecordCount.of(latest.values());
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("run", run);
        result.put("callers", callers);
        result.put("seconds", Math.round(minutes * 60));
        result.put("sent", sent);
        result.put("committed", latencies.size());
        result.put("refused", refused);
        result.put("unanswered", unanswered);
        result.put("attempts", attempts);
        result.put("perMinute", Math.round(latencies.size() / minutes));
        result.put("p50Millis", percentile(50));
        result.put("p95Millis", percentile(95));
        result.put("maxMillis", percentile(100));
        result.put("longestSilenceMillis", TimeUnit.NANOSECONDS.toMillis(longestSilence));
        result.put("records", expected.getRecords());
        result.put("versions", expected.getVersions());
        result.put("digest", expected.getDigest());
        return result;
    }

    private void call(String prefix, long end) {
        try (Connection connection = connections.get()) {
            for (int number = 1; System.nanoTime() < end; number++) {
                String person = prefix + "-" + number;
                boolean done = ask(connection, CreateRecord.class, person, score(), Status.CURRENT, readers, person + "-1");
                for (int version = 1; version < versions && done && System.nanoTime() < end; version++) {
                    done = ask(connection, UpdateRecord.class, person, version, score(), Status.CURRENT, person + "-" + (version + 1));
                }
            }
            synchronized (this) {
                attempts += connection.attempts();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static int score() {
        return ThreadLocalRandom.current().nextInt(CreditRecordContract.LOWEST_SCORE, CreditRecordContract.HIGHEST_SCORE + 1);
    }

    private boolean ask(Connection connection, Class<? extends FlowLogic<StateAndRef<CreditRecord>>> flow, Object... arguments)
            throws InterruptedException {
        long start = System.nanoTime();
        long before = connection.attempts();
        synchronized (this) {
            sent++;
        }
        try {
            CreditRecord record = connection.answer(flow, arguments).getState().getData();
            latest.put(record.person(), record);
            answered(start, record, connection.attempts() - before);
            return true;
        } catch (Refusal e) {
            synchronized (this) {
                refused++;
            }
            refusals.accept("refused: " + e.getMessage());
        } catch (Unanswered e) {
            synchronized (this) {
                unanswered++;
            }
            refusals.accept("unanswered: " + flow.getSimpleName() + " of " + arguments[0] + ": " + e.getMessage());
        }
        return false;
    }

    private synchronized void answered(long start, CreditRecord record, long attempts) {
        long now = System.nanoTime();
        long millis = TimeUnit.NANOSECONDS.toMillis(now - start);
        latencies.add(millis);
        longestSilence = Math.max(longestSilence, now - lastAnswer);
        lastAnswer = now;
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("person", record.person());
        line.put("version", record.getVersion());
        line.put("millis", millis);
        line.put("attempts", attempts);
        each.accept(line);
    }

    private Long percentile(int percent) {
        return latencies.isEmpty() ? null : latencies.get((latencies.size() - 1) * percent / 100);
    }
}
