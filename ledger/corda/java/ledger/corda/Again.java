package ledger.corda;

/** The end of a node that has to start again, for no failure of its own. */
final class Again {
    /** EX_TEMPFAIL of sysexits.h: whoever started the node counts it as no failed start. */
    private static final int STATUS = 75;

    private Again() {}

    /** Nothing that is on its way is waited for: the agent and the ledger take any death for one by kill -9. */
    static void end() {
        Runtime.getRuntime().halt(STATUS);
    }
}
