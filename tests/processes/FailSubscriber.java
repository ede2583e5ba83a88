package ledger.corda;

import java.sql.SQLException;
import net.corda.node.services.messaging.P2PMessagingClient;
import net.corda.node.services.network.NetworkMapUpdater;
import rx.subjects.PublishSubject;

/**
 * Lets one RxJava subscriber throw: {@code FailSubscriber other}, or {@code FailSubscriber
 * inbox|members SQLSTATE|none}. Prints {@code thrown} if the error reaches the publisher.
 */
public final class FailSubscriber {
    private FailSubscriber() {}

    private static void fail(String state) {
        Exception cause = state.equals("none") ? null : new SQLException("SQL", state);
        throw new IllegalStateException("refused", cause);
    }

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
                    messages.onNext(() -> fail(arguments[1]));
                    break;
                case "members":
                    members.onNext(() -> fail(arguments[1]));
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
        System.out.println("follows members: " + SubscriptionErrors.followsMembers());
    }
}
