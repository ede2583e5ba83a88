package ledger.corda;

import java.sql.SQLException;
import net.corda.node.services.messaging.P2PMessagingClient;
import net.corda.node.services.network.NetworkMapUpdater;
import rx.subjects.PublishSubject;

/**
 * Lets one RxJava subscriber throw: {@code FailSubscriber inbox}, {@code FailSubscriber other}, or {@code FailSubscriber
 * members SQLSTATE|none}. Prints {@code thrown} if the error reaches the publisher.
 */
public final class FailSubscriber {
    private FailSubscriber() {}

    public static void main(String[] arguments) {
        SubscriptionErrors.install();
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
            throw new IllegalStateException("the database is unavailable");
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
                    // Another subscriber, which is called while a message is processed.
                    messages.onNext(() -> {
                        try {
                            updates.onNext(failing);
                        } catch (RuntimeException error) {
                            System.out.println("thrown");
                        }
                    });
            }
        } catch (RuntimeException error) {
            System.out.println("thrown");
        }
        System.out.println("goes on");
    }
}
