package ledger.corda;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.Base64;
import org.apache.qpid.proton.codec.Data;

/** Decodes each line of its input, in Base64, as Corda decodes a peer's message; prints the type that it read, or the error. */
public final class DecodeMessages {
    private DecodeMessages() {}

    public static void main(String[] arguments) throws Exception {
        DecoderLimits.install();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Data data = Data.Factory.create();
            try {
                data.decode(ByteBuffer.wrap(Base64.getDecoder().decode(line)));
                data.rewind();
                data.next();
                System.out.println("read " + data.type());
            } catch (RuntimeException refused) {
                System.out.println(refused.getMessage());
            }
        }
    }
}
