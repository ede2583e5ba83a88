package ledger.corda;

import java.io.File;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.activemq.artemis.api.core.ActiveMQBuffer;
import org.apache.activemq.artemis.api.core.ICoreMessage;
import org.apache.activemq.artemis.api.core.Message;
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.postoffice.impl.LocalQueueBinding;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.MessageReference;
import org.apache.activemq.artemis.core.server.Queue;
import org.apache.activemq.artemis.core.server.impl.ActiveMQServerImpl;
import org.apache.activemq.artemis.utils.collections.LinkedListIterator;
import org.apache.qpid.proton.codec.Data;

/** Lists a stopped node's messages, received or to be sent, and sets one aside. */
final class Journal implements AutoCloseable {
    private static final byte[] MAGIC = {'c', 'o', 'r', 'd', 'a', 1, 0, 0};
    private final ActiveMQServerImpl broker;

    /** Starts a broker without listeners on a node's folder. */
    Journal(Path folder) throws Exception {
        Configuration configuration =
                new ConfigurationImpl()
                        .setName("P2P")
                        .setSecurityEnabled(false)
                        .setJMXManagementEnabled(false)
                        .setJournalType(JournalType.NIO)
                        .setBindingsDirectory(folder.resolve("bindings").toString())
                        .setJournalDirectory(folder.resolve("journal").toString())
                        .setLargeMessagesDirectory(folder.resolve("large-messages").toString())
                        .setPagingDirectory(folder.resolve("paging").toString());
        File[] files = folder.resolve("journal").toFile().listFiles((in, name) -> name.endsWith(".amq"));
        if (files == null || files.length == 0) {
            throw new Refusal(folder + ": no journal; wanted the folder artemis of a node");
        }
        // As the node made them: the size limits a message.
        int size = (int) Arrays.stream(files).mapToLong(File::length).max().getAsLong();
        configuration.setJournalFileSize(size).setJournalBufferSize_NIO(size);
        broker = new ActiveMQServerImpl(configuration);
        broker.start();
    }

    @Override
    public void close() throws Exception {
        broker.stop();
    }

    Map<String, Object> list() throws Exception {
        List<Map<String, Object>> messages = new ArrayList<>();
        for (Queue queue : queues()) {
            for (Message each : messages(queue)) {
                ICoreMessage core = each.toCore();
                byte[] content = content(core);
                Map<String, Object> message = new LinkedHashMap<>();
                message.put("id", each.getMessageID());
                message.put("queue", queue.getName().toString());
                message.put("sender", String.valueOf(core.getStringProperty(Message.HDR_VALIDATED_USER)));
                message.put("bytes", content.length);
                message.put("sent", each.getTimestamp() > 0 ? Instant.ofEpochMilli(each.getTimestamp()).toString() : "");
                message.put("refused", refused(content));
                messages.add(message);
            }
        }
        return Collections.singletonMap("messages", messages);
    }

    /** Writes and flushes a message to a new file before removing it from its queue. */
    Map<String, Object> setAside(long id, Path file) throws Exception {
        for (Queue queue : queues()) {
            for (Message each : messages(queue)) {
                if (each.getMessageID() == id) {
                    Files.write(
                            file,
                            content(each.toCore()),
                            StandardOpenOption.CREATE_NEW,
                            StandardOpenOption.WRITE,
                            StandardOpenOption.SYNC);
                    if (!queue.deleteReference(id)) {
                        throw new Refusal("message " + id + " can't be taken from " + queue.getName());
                    }
                    return Collections.singletonMap("file", file.toString());
                }
            }
        }
        throw new Refusal("no message " + id + "; wanted one that is listed");
    }

    private List<Queue> queues() {
        return broker.getPostOffice()
                .getAllBindings()
                .filter(LocalQueueBinding.class::isInstance)
                .map(each -> ((LocalQueueBinding) each).getQueue())
                .sorted((one, other) -> one.getName().toString().compareTo(other.getName().toString()))
                .collect(Collectors.toList());
    }

    private static List<Message> messages(Queue queue) {
        List<Message> messages = new ArrayList<>();
        try (LinkedListIterator<MessageReference> each = queue.browserIterator()) {
            while (each.hasNext()) {
                messages.add(each.next().getMessage());
            }
        }
        return messages;
    }

    private static byte[] content(ICoreMessage message) {
        ActiveMQBuffer body = message.getReadOnlyBodyBuffer();
        byte[] content = new byte[body.readableBytes()];
        body.readBytes(content);
        return content;
    }

    /** Why a node could not read the message; empty if it probably could. */
    private static String refused(byte[] content) {
        if (content.length <= MAGIC.length || !Arrays.equals(MAGIC, Arrays.copyOf(content, MAGIC.length))) {
            return "it is nothing of Corda's";
        }
        try {
            Data.Factory.create().decode(ByteBuffer.wrap(content, MAGIC.length, content.length - MAGIC.length));
            return "";
        } catch (RuntimeException error) {
            return String.valueOf(error.getMessage());
        }
    }
}
