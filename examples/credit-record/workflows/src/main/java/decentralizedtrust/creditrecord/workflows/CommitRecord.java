package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import java.security.PublicKey;
import java.util.ArrayList;
import java.util.List;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.contracts.TimeWindow;
import net.corda.core.contracts.TransactionVerificationException;
import net.corda.core.crypto.TransactionSignature;
import net.corda.core.flows.CollectSignaturesFlow;
import net.corda.core.flows.FlowException;
import net.corda.core.flows.FlowExternalOperation;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.FlowSession;
import net.corda.core.flows.InitiatingFlow;
import net.corda.core.flows.NotaryError;
import net.corda.core.flows.NotaryException;
import net.corda.core.flows.NotaryFlow;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.node.ServiceHub;
import net.corda.core.transactions.SignedTransaction;
import net.corda.core.transactions.TransactionBuilder;
import net.corda.core.utilities.ProgressTracker;

/**
 * Commits a version of a record: signed by an identity of each bank that has it, and notarised. The flow ends when the deliveries to
 * all their identities have begun, so an unavailable identity delays no answer.
 */
@InitiatingFlow
final class CommitRecord extends FlowLogic<StateAndRef<CreditRecord>> {
    private final StateAndRef<?> input;
    private final Commands command;
    private final CreditRecord record;
    private final ProgressTracker progress;

    /** @param progress of {@link Stage}s */
    CommitRecord(StateAndRef<?> input, Commands command, CreditRecord record, ProgressTracker progress) {
        this.input = input;
        this.command = command;
        this.record = record;
        this.progress = progress;
    }

    @Override
    public ProgressTracker getProgressTracker() {
        return progress;
    }

    /** The version that an earlier, identical request made. */
    static StateAndRef<CreditRecord> repeated(StateAndRef<CreditRecord> made, int score, Status status, String request)
            throws Refusal {
        CreditRecord record = made.getState().getData();
        if (!record.getRequest().equals(request)) {
            throw Refusal.of("%s was made by request %s, not by %s; wanted a change of the current version", record,
                    record.getRequest(), request);
        }
        if (record.getScore() != score || record.getStatus() != status) {
            throw Refusal.of("request %s reported %s %s before and %s %s now; wanted another reference for each report", request,
                    record.getScore(), record.getStatus(), score, status);
        }
        return made;
    }

    @Override
    @Suspendable
    public StateAndRef<CreditRecord> call() throws FlowException {
        progress.setCurrentStep(Stage.PROPOSING.step());
        List<Party> cosigners = cosigners();
        List<PublicKey> keys = new ArrayList<>();
        keys.add(getOurIdentity().getOwningKey());
        cosigners.forEach(party -> keys.add(party.getOwningKey()));
        TransactionBuilder builder = new TransactionBuilder(input.getState().getNotary())
                .addInputState(input)
                .addOutputState(record)
                .addCommand(command, keys)
                .setTimeWindow(TimeWindow.fromOnly(record.getReportedAt().minus(CreditRecordContract.CLOCK_TOLERANCE)));
        SignedTransaction proposed = getServiceHub().signInitialTransaction(verified(getServiceHub(), builder));

        progress.setCurrentStep(Stage.SIGNING.step());
        List<FlowSession> sessions = new ArrayList<>();
        for (Party party : cosigners) {
            sessions.add(initiateFlow(party));
        }
        SignedTransaction signed = subFlow(new CollectSignaturesFlow(proposed, sessions));
        progress.setCurrentStep(Stage.NOTARISING.step());
        SignedTransaction committed = signed.plus(notarised(signed));
        getServiceHub().recordTransactions(committed);
        progress.setCurrentStep(Stage.DELIVERING.step());
        await(new DeliveryBegin(getServiceHub().cordaService(DeliveryService.class), committed, others()));
        return committed.getTx().outRef(0);
    }

    @Suspendable
    private List<TransactionSignature> notarised(SignedTransaction signed) throws FlowException {
        try {
            return new ArrayList<>(subFlow(new NotaryFlow.Client(signed)));
        } catch (NotaryException e) {
            throw e.getError() instanceof NotaryError.Conflict
                    ? Refusal.retryable("another change came before %s and has not reached this node yet", record)
                    : Refusal.retryable("the notary did not commit %s: %s", record, e.getError());
        }
    }

    /** One identity of each reading bank: the first that had the record before, if the bank had, and that still has its key. */
    private List<Party> cosigners() throws Refusal {
        List<Party> cosigners = new ArrayList<>();
        for (CordaX500Name bank : CreditRecord.banksOf(record.getReaders())) {
            CreditRecord version = versionToSignFor(bank);
            cosigners.add(version.getReaders().stream()
                    .filter(party -> CreditRecord.bankOf(party.getName()).equals(bank) && Ledger.isReached(getServiceHub(), party))
                    .findFirst()
                    .orElseThrow(() -> Refusal.of("no identity of %s in %s is in the network map by its key there; wanted one to sign",
                            bank, version)));
        }
        return cosigners;
    }

    /** The version whose identities of a bank may sign: the contract accepts none that were added later. */
    private CreditRecord versionToSignFor(CordaX500Name bank) {
        if (input.getState().getData() instanceof CreditRecord) {
            CreditRecord previous = (CreditRecord) input.getState().getData();
            if (CreditRecord.banksOf(previous.getReaders()).contains(bank)) {
                return previous;
            }
        }
        return record;
    }

    private List<Party> others() {
        List<Party> others = new ArrayList<>(record.parties());
        others.remove(getOurIdentity());
        return others;
    }

    static TransactionBuilder verified(ServiceHub services, TransactionBuilder builder) throws FlowException {
        try {
            builder.verify(services);
            return builder;
        } catch (TransactionVerificationException.ContractRejection e) {
            throw Refusal.of("%s", e.getCause().getMessage());
        }
    }

    /** Runs again if the node ends before the operation's result is stored: a delivery may be made twice. */
    private static final class DeliveryBegin implements FlowExternalOperation<Integer> {
        private final DeliveryService deliveries;
        private final SignedTransaction committed;
        private final List<Party> parties;

        DeliveryBegin(DeliveryService deliveries, SignedTransaction committed, List<Party> parties) {
            this.deliveries = deliveries;
            this.committed = committed;
            this.parties = parties;
        }

        @Override
        public Integer execute(String deduplicationId) {
            parties.forEach(party -> deliveries.begin(party, committed));
            return parties.size();
        }
    }
}
