package decentralizedtrust.creditrecord.workflows;

import co.paralleluniverse.fibers.Suspendable;
import decentralizedtrust.creditrecord.contracts.CreditRecord;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import net.corda.core.contracts.StateAndRef;
import net.corda.core.flows.FlowLogic;
import net.corda.core.flows.StartableByRPC;
import net.corda.core.identity.CordaX500Name;
import net.corda.core.node.services.Vault;
import net.corda.core.node.services.vault.PageSpecification;
import net.corda.core.node.services.vault.QueryCriteria;
import net.corda.core.node.services.vault.Sort;
import net.corda.core.node.services.vault.SortAttribute;

/** Counts this node's records. Exact while nothing changes. */
@StartableByRPC
public final class CountRecords extends FlowLogic<RecordCount> {
    private static final int PAGE = 500;
    /** Without an order, pages may repeat or omit a record. */
    private static final Sort BY_REFERENCE = new Sort(Collections.singletonList(
            new Sort.SortColumn(new SortAttribute.Standard(Sort.CommonStateAttribute.STATE_REF), Sort.Direction.ASC)));

    private final String prefix;
    private final List<CordaX500Name> with;

    /**
     * @param prefix of the persons' references; empty for all
     * @param with banks that have the record too, by the name of any of their nodes or without OU; empty for all
     */
    public CountRecords(String prefix, List<CordaX500Name> with) {
        this.prefix = prefix;
        this.with = new ArrayList<>();
        with.forEach(bank -> this.with.add(CreditRecord.bankOf(bank)));
    }

    @Override
    @Suspendable
    public RecordCount call() {
        QueryCriteria current = new QueryCriteria.VaultQueryCriteria(Vault.StateStatus.UNCONSUMED);
        List<CreditRecord> records = new ArrayList<>();
        Vault.Page<CreditRecord> page;
        int number = 1;
        do {
            page = getServiceHub().getVaultService().queryBy(CreditRecord.class, current, new PageSpecification(number++, PAGE),
                    BY_REFERENCE);
            for (StateAndRef<CreditRecord> state : page.getStates()) {
                CreditRecord record = state.getState().getData();
                if (record.person().startsWith(prefix) && CreditRecord.banksOf(record.parties()).containsAll(with)
                        && Ledger.unknownParty(getServiceHub(), record) == null) {
                    records.add(record);
                }
            }
        } while (page.getStates().size() == PAGE);
        return RecordCount.of(records);
    }
}
