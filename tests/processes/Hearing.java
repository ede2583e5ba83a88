package ledger.corda;

import java.sql.SQLException;
import net.corda.node.services.messaging.P2PMessagingClient;
import net.corda.node.services.network.NetworkMapUpdater;
import rx.subjects.PublishSubject;

/**
 * Whose subscriber throws, while a node watches its hearing: {@code Hearing inbox}, {@code Hearing other}, or
 * {@code Hearing members SQLSTATE|none}.
 */
public final class Hearing {
    private Hearing() {}

    public static void main(String[] arguments) {
        Deafness.watch();
        P2PMessagingClient client = new P2PMessagingClient();
        PublishSubject<Runnable> messages = PublishSubject.create();
        messages.subscribe(client::deliver, error -> {
            throw new IllegalStateException(error);
        });
        NetworkMapUpdater updater = new NetworkMapUpdater();
        PublishSubject<Runnable> members = PublishSubject.create();
        members.subscribe(updater::process);
        PublishSubject<Runnable> updates = PublishSubject.create();
        updates.subscribe(Runnable::run);
        Runnable failing = () -> {
            throw new IllegalStateException("the database is away");
        };
        try {
            switch (arguments[0]) {
                case "inbox":
                    messages.onNext(failing);
                    break;
                case "members":
                    members.onNext(() -> {
                        Exception cause = arguments[1].equals("none") ? null : new SQLException("SQL", arguments[1]);
                        throw new IllegalStateException("refused", cause);
                    });
                    break;
                default:
                    // While a message is taken, one who is told of it fails.
                    messages.onNext(() -> {
                        try {
                            updates.onNext(failing);
                        } catch (RuntimeException told) {
                            System.out.println("told");
                        }
                    });
            }
        } catch (RuntimeException told) {
            System.out.println("told");
        }
        System.out.println("goes on");
    }
}
