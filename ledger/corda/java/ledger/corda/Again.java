package ledger.corda;

/** Ends a node that must restart although it did not fail. */
final class Again {
    /** EX_TEMPFAIL of sysexits.h: the agent counts no failed start. */
    private static final int STATUS = 75;

    private Again() {}

    /** Ends the process at once, as kill -9 would, which agent and ledger tolerate. */
    static void end() {
        Runtime.getRuntime().halt(STATUS);
    }
}
