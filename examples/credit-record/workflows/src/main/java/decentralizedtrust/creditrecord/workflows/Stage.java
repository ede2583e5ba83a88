package decentralizedtrust.creditrecord.workflows;

import java.util.Arrays;
import java.util.Optional;
import net.corda.core.utilities.ProgressTracker;

/** The stages of a change of a record. */
public enum Stage {
    PROPOSING("Proposing"),
    SIGNING("Collecting signatures"),
    NOTARISING("Notarising"),
    DELIVERING("Delivering");

    private final ProgressTracker.Step step;

    Stage(String label) {
        this.step = new ProgressTracker.Step(label);
    }

    ProgressTracker.Step step() {
        return step;
    }

    static ProgressTracker tracker() {
        return new ProgressTracker(Arrays.stream(values()).map(Stage::step).toArray(ProgressTracker.Step[]::new));
    }

    /** The stage with that label; empty for the steps of Corda's own flows. */
    public static Optional<Stage> of(String label) {
        return Arrays.stream(values()).filter(stage -> stage.step.getLabel().equals(label)).findFirst();
    }
}
