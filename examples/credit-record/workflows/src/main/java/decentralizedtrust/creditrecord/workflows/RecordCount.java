package decentralizedtrust.creditrecord.workflows;

import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.TreeSet;
import net.corda.core.crypto.SecureHash;
import net.corda.core.serialization.CordaSerializable;

/** Counts and a digest, by which two nodes can check that they have the same records. */
@CordaSerializable
public final class RecordCount {
    private final int records;
    private final long versions;
    private final int doubled;
    private final String digest;

    public RecordCount(int records, long versions, int doubled, String digest) {
        this.records = records;
        this.versions = versions;
        this.doubled = doubled;
        this.digest = digest;
    }

    /** @param current the current versions, in any order */
    public static RecordCount of(Collection<CreditRecord> current) {
        TreeSet<String> lines = new TreeSet<>();
        for (CreditRecord record : current) {
            lines.add(String.join("|", record.bank().toString(), record.person(), String.valueOf(record.getVersion()),
                    String.valueOf(record.getScore()), record.getStatus().name(), record.getRequest()));
        }
        long persons = current.stream().map(CreditRecord::getLinearId).distinct().count();
        return new RecordCount(current.size(), current.stream().mapToLong(CreditRecord::getVersion).sum(),
                (int) (current.size() - persons),
                SecureHash.sha256(String.join("\n", lines).getBytes(StandardCharsets.UTF_8)).toString());
    }

    /** Current versions. */
    public int getRecords() {
        return records;
    }

    /** All versions that led to them. */
    public long getVersions() {
        return versions;
    }

    /** Current versions beside another one of the same person and bank; 0, unless something is wrong. */
    public int getDoubled() {
        return doubled;
    }

    /** SHA-256 of banks, persons, versions, scores, statuses and requests. */
    public String getDigest() {
        return digest;
    }
}
