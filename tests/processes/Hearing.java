package ledger.corda;

import net.corda.node.services.messaging.P2PMessagingClient;
import rx.subjects.PublishSubject;

/** {@code Hearing inbox} or {@code Hearing other}: whose subscriber throws, while a node watches its hearing. */
public final class Hearing {
    private Hearing() {}

    public static void main(String[] arguments) {
        Deafness.watch();
        P2PMessagingClient client = new P2PMessagingClient();
        PublishSubject<Runnable> messages = PublishSubject.create();
        messages.subscribe(client::deliver, error -> {
            throw new IllegalStateException(error);
        });
        PublishSubject<Runnable> updates = PublishSubject.create();
        updates.subscribe(Runnable::run);
        Runnable failing = () -> {
            throw new IllegalStateException("the database is away");
        };
        try {
            if (arguments[0].equals("inbox")) {
                messages.onNext(failing);
            } else {
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
