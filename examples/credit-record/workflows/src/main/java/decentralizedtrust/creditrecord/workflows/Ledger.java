package decentralizedtrust.creditrecord.workflows;

import decentralizedtrust.creditrecord.contracts.CreditRecord;
import decentralizedtrust.creditrecord.contracts.CreditRecord.Status;
import decentralizedtrust.creditrecord.contracts.CreditRecordContract.Commands;
import decentralizedtrust.creditrecord.contracts.Opening;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import net.corda.core.contracts.PrivacySalt;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.contracts.UniqueIdentifier;
import net.corda.core.crypto.Crypto;
import net.corda.core.crypto.SecureHash;
import net.corda.core.crypto.SignableData;
import net.corda.core.crypto.SignatureMetadata;
import net.corda.core.flows.FlowException;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.identity.Party;
import net.corda.core.node.NodeInfo;
import net.corda.core.node.ServiceHub;
import net.corda.core.node.StatesToRecord;
import net.corda.core.node.services.Vault;
import net.corda.core.node.services.VaultQueryException;
import net.corda.core.node.services.vault.QueryCriteria;
import net.corda.core.transactions.SignedTransaction;
import net.corda.core.transactions.TransactionBuilder;
import net.corda.core.transactions.WireTransaction;

/** A node's records, and the banks of its network map. */
final class Ledger {
    private Ledger() {}

    /** The current version at this node, or null. */
    static StateAndRef<CreditRecord> current(ServiceHub services, UniqueIdentifier id) throws Refusal {
        QueryCriteria criteria = new QueryCriteria.LinearStateQueryCriteria(null, Collections.singletonList(id.getId()), null,
                Vault.StateStatus.UNCONSUMED, Collections.singleton(CreditRecord.class));
        List<StateAndRef<CreditRecord>> found = new ArrayList<>();
        for (StateAndRef<CreditRecord> state : queried(services, criteria)) {
            if (unknownParty(services, state.getState().getData()) == null) {
                found.add(state);
            }
        }
        if (found.size() > 1) {
            throw Refusal.of("%s of %s are current; wanted one: the bank opened the record twice", found.size(),
                    found.get(0).getState().getData().person());
        }
        return found.isEmpty() ? null : found.get(0);
    }

    private static List<StateAndRef<CreditRecord>> queried(ServiceHub services, QueryCriteria criteria) throws Refusal {
        try {
            return services.getVaultService().queryBy(CreditRecord.class, criteria).getStates();
        } catch (Exception e) {
            if (e instanceof VaultQueryException) {
                // A counterparty's Corda can't read this exception, drops it, and its flow waits until its node's next start.
                throw Refusal.retryable("the vault can't be queried: %s", e.getMessage());
            }
            throw e;
        }
    }

    /**
     * The first party whose key, as far as this node knows, never belonged to its name; or null. The vault stores any state that
     * satisfies its contract, from any flow and in any history, and no contract can check whose key it is.
     */
    static Party unknownParty(ServiceHub services, CreditRecord record) {
        for (Party party : record.parties()) {
            // A replaced key counts too: no party is ever left out of its records.
            Party known = services.getIdentityService().partyFromKey(party.getOwningKey());
            if (known == null || !known.getName().equals(party.getName())) {
                return party;
            }
        }
        return null;
    }

    /**
     * The versions from {@code oldest} to this one, the oldest first. They follow the transactions' inputs, which every bank has
     * back to the first report, also one that became a reader later.
     */
    static List<StateAndRef<CreditRecord>> versions(ServiceHub services, StateAndRef<CreditRecord> current, int oldest) {
        List<StateAndRef<CreditRecord>> versions = new ArrayList<>();
        StateAndRef<CreditRecord> version = current;
        versions.add(version);
        while (version.getState().getData().getVersion() > oldest) {
            SignedTransaction made = services.getValidatedTransactions().getTransaction(version.getRef().getTxhash());
            SecureHash before = made.getTx().getInputs().get(0).getTxhash();
            version = services.getValidatedTransactions().getTransaction(before).getTx().outRef(0);
            versions.add(version);
        }
        Collections.reverse(versions);
        return versions;
    }

    /** The bank's node identities in the network map, by name; never a notary, which stores no records. */
    static List<Party> identities(ServiceHub services, CordaX500Name bank) throws Refusal {
        List<Party> identities = new ArrayList<>();
        for (NodeInfo node : services.getNetworkMapCache().getAllNodes()) {
            for (Party party : node.getLegalIdentities()) {
                if (CreditRecord.bankOf(party.getName()).equals(bank) && !services.getNetworkMapCache().isNotary(party)) {
                    identities.add(party);
                }
            }
        }
        if (identities.isEmpty()) {
            throw Refusal.of("%s has no node in the network map; wanted a member of the network", bank);
        }
        identities.sort(Comparator.comparing(party -> party.getName().toString()));
        return identities;
    }

    /** Whether the network map has the party, by this very key. */
    static boolean isReached(ServiceHub services, Party party) {
        return services.getNetworkMapCache().getNodesByLegalIdentityKey(party.getOwningKey()).stream()
                .flatMap(node -> node.getLegalIdentities().stream())
                .anyMatch(known -> known.equals(party) && known.getName().equals(party.getName()));
    }

    /** Whether the network map has the party's name, by another key. */
    static boolean hasAnotherKey(ServiceHub services, Party party) {
        return !isReached(services, party) && services.getNetworkMapCache().getNodeByLegalName(party.getName()) != null;
    }

    /** The parties, and the bank's identities that are not among them. */
    static List<Party> with(ServiceHub services, List<Party> parties, CordaX500Name bank) throws Refusal {
        List<Party> all = new ArrayList<>(parties);
        for (Party identity : identities(services, bank)) {
            if (parties.stream().noneMatch(party -> party.getName().equals(identity.getName()))) {
                all.add(identity);
            }
        }
        return all;
    }

    /** The version after this one, dated now, for {@code reader} and the new identities of its banks too. */
    static CreditRecord next(ServiceHub services, CreditRecord record, int score, Status status, CordaX500Name reader,
            String request) throws Refusal {
        List<Party> readers = record.getReaders();
        Set<CordaX500Name> banks = CreditRecord.banksOf(readers);
        banks.add(reader);
        banks.remove(record.bank());
        for (CordaX500Name bank : banks) {
            readers = with(services, readers, bank);
        }
        Instant now = now(services);
        return new CreditRecord(record.getLinearId(), with(services, record.getOwners(), record.bank()), readers, score, status,
                record.getVersion() + 1,
                // A bank's nodes have a clock each; the later of two reports never looks like the earlier.
                now.isBefore(record.getReportedAt()) ? record.getReportedAt() : now, request);
    }

    static Instant now(ServiceHub services) {
        return services.getClock().instant().truncatedTo(ChronoUnit.MILLIS);
    }

    /**
     * Makes the opening of a record and stores it at this node. Its transaction has the same bytes at all of the bank's nodes that
     * have the same contracts and network parameters: salt and key are derived from the id. The key protects nothing, but Corda
     * requires a signature of each transaction.
     */
    static StateAndRef<Opening> opening(ServiceHub services, UniqueIdentifier id, CordaX500Name bank) throws FlowException {
        SecureHash seed = SecureHash.sha256((bank + "\n" + id.getExternalId()).getBytes(StandardCharsets.UTF_8));
        KeyPair key = Crypto.deriveKeyPairFromEntropy(Crypto.EDDSA_ED25519_SHA512, new BigInteger(1, seed.getBytes()));
        // The first of the network parameters, which are the same everywhere.
        Party notary = services.getNetworkMapCache().getNotaryIdentities().get(0);
        TransactionBuilder builder = new TransactionBuilder(notary)
                .addOutputState(new Opening(id, bank))
                .addCommand(new Commands.Open(), key.getPublic())
                .setPrivacySalt(new PrivacySalt(seed.getBytes()));
        WireTransaction transaction = CommitRecord.verified(services, builder).toWireTransaction(services);
        SignatureMetadata metadata = new SignatureMetadata(services.getMyInfo().getPlatformVersion(),
                Crypto.EDDSA_ED25519_SHA512.getSchemeNumberID());
        SignedTransaction signed;
        try {
            signed = new SignedTransaction(transaction,
                    Collections.singletonList(Crypto.doSign(key, new SignableData(transaction.getId(), metadata))));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
        services.recordTransactions(StatesToRecord.NONE, Collections.singleton(signed));
        return transaction.outRef(0);
    }
}
