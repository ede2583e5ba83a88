"""Any configuration is either refused line by line, or planned and deployed in the offline Azure."""

from typing import Any
from uuid import UUID

import pulumi
from hypothesis import event, given, note
from hypothesis import strategies as st

from docs.generate import all_keys
from lab.azure.program import StackConfiguration, run_program
from stack.regions import REGIONS
from stack.settings import LOCATION_KEY, SettingsError, parse_settings
from tests.configuration import IMAGE_ID, PROJECT, SSH_PUBLIC_KEY, changed, configuration

ID = str(UUID(int=7))
PATHS = [key.path for key in all_keys() if "[" not in key.path and key.path != "expressRouteAuthorizationKey"]
PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    LOCATION_KEY: st.sampled_from(sorted(REGIONS)),
    "size": st.sampled_from(["small", "medium", "large"]),
    "nodes.count": st.integers(0, 17),
    "nodes.standby": st.integers(-1, 8),
    "nodes.vmSize": st.sampled_from(["Standard_D4s_v5", "Standard_E8s_v3", "Standard_F8s_v2", "Standard_D4ps_v5"]),
    "nodes.image": st.just({"id": IMAGE_ID}),
    "nodes.sshPublicKey": st.sampled_from([SSH_PUBLIC_KEY, f"{SSH_PUBLIC_KEY} me", "ssh-rsa x"]),
    "bank.name": st.from_regex(r"[a-z][a-z0-9-]{0,24}", fullmatch=True),
    "bank.legalName": st.sampled_from(["O=Bank A, L=London, C=GB", "C=GB, L=London, O=Bank  A", "O=B, L=x, C=ZZ"]),
    "bank.asn": st.sampled_from([64512, 65514, 65515, 65521, 4_200_000_000, 1]),
    "addressSpace": st.sampled_from(["10.1.0.0/16", "10.1.0.0/22", "172.16.0.0/22", "10.0.0.0/8", "11.0.0.0/16"]),
    "ledger.roles": st.dictionaries(
        st.sampled_from(["node-1", "node-2", "node-9"]), st.sampled_from(["notary", "x"])
    ),
    "ledger.rpcUsers": st.lists(
        st.fixed_dictionaries({"name": st.text(max_size=8), "permissions": st.lists(st.sampled_from(["ALL", ""]))}),
        max_size=2,
    ),
    "ledger.shareGib": st.integers(90, 110_000),
    "ledger.network": st.sampled_from([{"authority": "bank-a"}, {"authority": "bank-b"}, {}, None]),
    "connectivity": st.sampled_from([{"vpn": {}}, {"vpn": {"sku": "VpnGw1AZ"}}, {}, {"vpn": None}]),
    "applicationNetworks": st.lists(st.sampled_from(["10.200.0.0/24", "10.1.0.0/24", "0.0.0.0/0", "100.64.0.0/16"])),
    "operators": st.lists(st.just(ID), max_size=2),
    "alerts.emails": st.lists(st.sampled_from(["a@b.example", "a b"]), max_size=2),
    "tags": st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=14),
    "database.highAvailability": st.sampled_from(["Disabled", "SameZone", "ZoneRedundant"]),
    "database.sku": st.sampled_from(["Standard_D4ds_v5", "Standard_D4ds_v4", "Standard_E4ds_v5", "Standard_B1ms"]),
    "keyVault.softDeleteDays": st.integers(0, 100),
}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=4,
)
LIKELY = st.one_of(*(st.tuples(st.just(path), values) for path, values in PLAUSIBLE.items()))
CHANGES = st.lists(
    st.one_of(LIKELY, LIKELY, LIKELY, st.tuples(st.sampled_from(PATHS), ANYTHING)), min_size=1, max_size=3
)


def outcome_of(values: dict[str, str]) -> str:
    try:
        parse_settings(PROJECT, values, frozenset())
    except SettingsError as error:
        for line in str(error).splitlines():
            assert line.startswith((f"{PROJECT}:", LOCATION_KEY)), f"{line}: it names no key"
            assert "wanted" in line, f"{line}: it does not say what would be right"
        return "refused"
    try:
        run_program(StackConfiguration("random", values, ()))
    except pulumi.RunError as refused:
        message = str(refused)
    else:
        return "planned"
    assert "wanted" in message, message
    return "refused by the run"


@given(CHANGES)
def test_a_configuration_is_refused_by_its_key_or_deployed(changes: list[tuple[str, Any]]) -> None:
    values = configuration()
    for path, value in changes:
        values = changed(values, path, value)
    note(str(values))
    event(outcome_of(values))


def test_valid_configurations_are_deployed() -> None:
    assert outcome_of(configuration()) == "planned", "otherwise every configuration might be refused unnoticed"
