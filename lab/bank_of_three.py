"""Banks of a consortium of three, as inputs of the workbook: one with a node, and that of the recorded run."""

from dataclasses import replace

from components.inputs import Placement
from components.workbook import Measured, WorkbookArgs
from contract.platform import Counted

EXAMPLE = WorkbookArgs(
    placement=Placement(resource_group_name="bank-a", location="swedencentral"),
    member="bank-a",
    workspace_id="workspace",
    resource_group_id="/subscriptions/s/resourceGroups/bank-a",
    transactions=Counted.OWN,
    identities=["node-1"],
    standbys=1,
    peers={"bank-b": ["203.0.113.20", "203.0.113.21"], "bank-c": ["203.0.113.36", "203.0.113.37"]},
    services={each: [] for each in Measured},
    authority=True,
)
"""One node, a standby and the network's authority."""
RECORDED_BANK = replace(EXAMPLE, identities=["node-1", "node-2", "node-3"])
"""Bank A of `lab.banks.scenario`: a notary, two nodes and a standby."""
