package ledger.corda;

import java.nio.file.Path;
import java.nio.file.Paths;
import org.apache.activemq.artemis.api.core.RoutingType;
import org.apache.activemq.artemis.api.core.SimpleString;
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.message.impl.CoreMessage;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.impl.ActiveMQServerImpl;

/** {@code FillQueue FOLDER COUNT BYTES}: leaves COUNT messages of BYTES each in a queue of a stopped node. */
public final class FillQueue {
    private FillQueue() {}

    public static void main(String[] arguments) throws Exception {
        Path folder = Paths.get(arguments[0]);
        int size = 11 << 20;
        Configuration configuration =
                new ConfigurationImpl()
                        .setSecurityEnabled(false)
                        .setJMXManagementEnabled(false)
                        .setJournalType(JournalType.NIO)
                        .setJournalSyncTransactional(false)
                        .setJournalSyncNonTransactional(false)
                        .setJournalFileSize(size)
                        .setJournalBufferSize_NIO(size)
                        .setBindingsDirectory(folder.resolve("bindings").toString())
                        .setJournalDirectory(folder.resolve("journal").toString())
                        .setLargeMessagesDirectory(folder.resolve("large-messages").toString())
                        .setPagingDirectory(folder.resolve("paging").toString());
        ActiveMQServerImpl broker = new ActiveMQServerImpl(configuration);
        broker.start();
        SimpleString queue = SimpleString.toSimpleString("p2p.inbound.test");
        broker.createQueue(queue, RoutingType.ANYCAST, queue, null, true, false);
        byte[] content = new byte[Integer.parseInt(arguments[2])];
        for (int count = Integer.parseInt(arguments[1]); count > 0; count--) {
            CoreMessage message = new CoreMessage(broker.getStorageManager().generateID(), content.length + 512);
            message.setAddress(queue).setDurable(true);
            message.getBodyBuffer().writeBytes(content);
            broker.getPostOffice().route(message, false);
        }
        broker.stop();
        System.exit(0);
    }
}
