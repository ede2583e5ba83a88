"""Runs of the whole program, each made once for all tests, and lookups in what a run registered."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi

from ledger.corda import CORDA
from ledger.platforms import PLATFORMS
from offline import program
from offline.azure import Account, OfflineAzure
from offline.deployment import Deployment
from offline.program import ORGANIZATION, PROJECT, Run, StackConfiguration, read_configuration, run_program
from offline.recorder import STACK_TYPE, Recorder, Registration
from offline.stacks import account_of, stack_file
from settings import EXPRESS_ROUTE_KEY
from tests.configuration import SSH_PUBLIC_KEY, configuration
from tests.echo import PLATFORM as ECHO

ROOT = Path(__file__).resolve().parent.parent
CIRCUIT = (
    "/subscriptions/0b1f6c5e-3d54-4f0e-8a4c-5b7e0c9d2f11/resourceGroups/circuits"
    "/providers/Microsoft.Network/expressRouteCircuits/metro"
)
AUTHORIZATION_KEY = "b3c1f6a4-authorization-of-the-circuit"
READER = "0f3b9c57-8f0e-4f5a-9a55-2f4d1f5f7b61"
OPERATORS = "6f1d3a52-8a0b-4c9e-9f7e-2d5b7a1c4e90"
APPLICATIONS = "10.50.0.0/16"
MAIL = "ledger-operations@bank-a.example"
TAGS = {"cost-centre": "4711"}
RPC_USERS = [
    {"name": "credit", "permissions": ["StartFlow.com.bank.credit.Report"]},
    {"name": "reports", "permissions": ["InvokeRpc.nodeInfo", "InvokeRpc.vaultQueryBy"]},
]


@dataclass(frozen=True)
class Plan(Run):
    """A run, and what its monitor saw besides the requests."""

    ids: Mapping[str, str]
    """Resource ids by URN."""
    answers: Mapping[str, Mapping[str, Any]]
    """What the offline Azure answered, by URN: inputs and computed outputs."""
    component_outputs: Mapping[str, Mapping[str, Any]]
    """What each component registered as its outputs, by URN."""
    secret_component_outputs: Mapping[str, frozenset[str]]
    """Which of them are secret."""


@dataclass(frozen=True)
class Refusal:
    """What the program said when it would not run, and what it had registered by then."""

    message: str
    registered: tuple[str, ...]


def once(make: Callable[..., Plan]) -> Callable[..., Plan]:
    """Make each run once. One that fails fails again at once: a broken program should not cost minutes to find."""
    plans: dict[Any, Plan] = {}
    failures: dict[Any, Exception] = {}

    @wraps(make)
    def made(*args: Any, **options: Any) -> Plan:
        key = (args, *options.items())
        if key in failures:
            raise AssertionError(f"{make.__name__} failed before: {failures[key]}")
        if key not in plans:
            try:
                plans[key] = make(*args, **options)
            except Exception as error:
                failures[key] = error
                raise
        return plans[key]

    return made


@contextmanager
def _recorders() -> Iterator[list[Recorder]]:
    """The monitors of the runs inside: they saw more than a run says."""
    made: list[Recorder] = []

    class Kept(Recorder):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    with patch.object(program, "Recorder", Kept):
        yield made


def _planned(stack: StackConfiguration, *others: Run, account: Account | None = None, unknown: bool = False) -> Plan:
    """Run the program for one member, in an Azure where the other members' resources are."""
    own = account or Account.of(stack.member, "north")
    azure = OfflineAzure()
    for other in others:
        azure.deployers |= other.azure.azure.deployers
        azure.resources |= {
            resource_id: resource
            for resource_id, resource in other.azure.azure.resources.items()
            if resource.subscription_id != own.subscription_id
        }
    with _recorders() as recorders:
        run = run_program(
            stack,
            references={stack_of(other.stack): other.outputs for other in others},
            deployment=Deployment(azure.account(own)),
            unknown=unknown,
        )
    (recorder,) = recorders
    components = [urn for urn in recorder.outputs if urn.split("::")[2] != STACK_TYPE]
    return Plan(
        **vars(run),
        ids={urn: made.id for urn, made in recorder.resources.items()},
        answers={urn: made.state for urn, made in recorder.resources.items()},
        component_outputs={urn: recorder.outputs[urn] for urn in components},
        secret_component_outputs={urn: recorder.secret_outputs[urn] for urn in components},
    )


def refusal(*, references: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any) -> Refusal:
    """What comes of bank-a's smallest configuration with these changes, which the program must refuse."""
    with _recorders() as recorders:
        try:
            run_program(StackConfiguration("bank-a", configuration(**changes)), references=references or {})
        except pulumi.RunError as error:
            return Refusal(str(error), tuple(name for each in recorders for name in each.registrations))
    raise AssertionError("the program ran; wanted it to refuse")


def stack_of(bank: str) -> str:
    """The full name of a bank's stack."""
    return f"{ORGANIZATION}/{PROJECT}/{bank}"


# --- The sample stacks and the three banks of the example ----------------------------------------------------------


def _file(stack: str) -> Path:
    path = stack_file(stack)
    assert path is not None, f"no configuration of stack {stack}"
    return path


@once
def bank(name: str, *, linked: bool = True, unknown: bool = False) -> Plan:
    """One bank of the example, with its links or, as it was before it joined, without any."""
    path = _file(name)
    stack = read_configuration(path)
    if not linked:
        return _planned(stack.without_peers(), account=account_of(path, stack), unknown=unknown)
    # Bank A's card comes from its linked run: who is linked to whom stands on no card, which a test shows.
    others = [bank(other, linked=other == "bank-a") for other in _referenced(stack)]
    return _planned(stack, *others, account=account_of(path, stack), unknown=unknown)


def _referenced(stack: StackConfiguration) -> list[str]:
    return [reference.rsplit("/", 1)[1] for reference in stack.referenced_stacks]


@once
def renewed(name: str) -> Plan:
    """Bank A with its link key made anew, or bank B run again after that."""
    path = _file(name)
    stack = read_configuration(path)
    if name == "bank-a":
        stack = replace(stack, values={**stack.values, f"{PROJECT}:keyGenerations": json.dumps({"link": 2})})
    others = [renewed(other) if other == "bank-a" else bank(other, linked=False) for other in _referenced(stack)]
    return _planned(stack, *others, account=account_of(path, stack))


@once
def sample(stack_name: str) -> Plan:
    """A stack whose file lies next to the program: `dev` or `prod`."""
    path = _file(stack_name)
    stack = read_configuration(path)
    others = [bank(other, linked=False) for other in _referenced(stack)]
    return _planned(stack, *others, account=account_of(path, stack))


# --- One member that has everything, and one that has the least ----------------------------------------------------


_CONNECTIVITY = {"expressRoute": {"circuitId": CIRCUIT}}
_SECRET_KEYS = (f"{PROJECT}:{EXPRESS_ROUTE_KEY}",)


@once
def large(*, unknown: bool = False) -> Plan:
    """Bank A at its largest: both gateways, a VNet-to-VNet link to B, IPsec to C, applications, operators, alerts.

    It certifies the network's names and runs its notary.
    """
    others = [bank(name, linked=False) for name in ("bank-b", "bank-c")]
    values = configuration(
        size="large",
        ledger={
            "roles": {"node-1": "notary"},
            "rpcUsers": RPC_USERS,
            "network": {"authority": "bank-a"},
        },
        peers=[{"name": other.stack, "stack": stack_of(other.stack)} for other in others],
        connectivity={"vpn": {"sku": "VpnGw2AZ"}, **_CONNECTIVITY},
        gatewayReaders=[READER],
        applicationNetworks=[APPLICATIONS],
        operators=[OPERATORS],
        alerts={"emails": [MAIL]},
        tags=TAGS,
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
    )
    return _planned(StackConfiguration("bank-a", values, _SECRET_KEYS), *others, unknown=unknown)


@once
def bare() -> Plan:
    """Bank A at its barest: an image, no database, a region without zones, a circuit and no VPN gateway."""
    image = "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/galleries/g/images/i/versions/1.0.0"
    values = configuration(
        size="small",
        nodes={"sshPublicKey": SSH_PUBLIC_KEY, "image": {"id": image}},
        location="westus",
        connectivity=_CONNECTIVITY,
        peers=[{"name": "bank-b", "stack": stack_of("bank-b")}],
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
    )
    with patch.dict(PLATFORMS, {CORDA.name: replace(CORDA, database=None)}):
        return _planned(StackConfiguration("bank-a", values, _SECRET_KEYS), bank("bank-b", linked=False))


ECHO_ROUTED = (ip_network("10.2.0.0/16"), ip_network(APPLICATIONS))
"""What its gateway learns: the peer and the applications."""


@once
def echo() -> Plan:
    """Bank A on a second platform, linked to B, with applications."""
    values = configuration(
        ledger={"platform": ECHO.name},
        bank={"name": "bank-a", "legalName": " Bank  A ", "asn": 64512},
        peers=[{"name": "bank-b", "stack": stack_of("bank-b")}],
        applicationNetworks=[APPLICATIONS],
    )
    with patch.dict(PLATFORMS, {ECHO.name: ECHO}):
        return _planned(StackConfiguration("bank-a", values), bank("bank-b", linked=False))


# --- Lookups -------------------------------------------------------------------------------------------------------


def all_of(run: Run, kind: str) -> list[Registration]:
    """The registrations of one type, by the end of its token: `Subnet`, or `network:Subnet`."""
    return [each for each in run.registrations.values() if each.type.endswith(f":{kind}")]


def one(run: Run, kind: str, name: str | None = None) -> Registration:
    """The one registration of a type, or the one of that logical name."""
    found = [each for each in all_of(run, kind) if name in (None, each.name)]
    assert len(found) == 1, f"{len(found)} x {kind} {name or ''}; wanted one"
    return found[0]


def resources(run: Run) -> list[Registration]:
    """Everything that is no component."""
    return [each for each in run.registrations.values() if each.custom]


def components(run: Run) -> list[Registration]:
    """Every component."""
    return [each for each in run.registrations.values() if not each.custom]


def depends_on(run: Run, registration: Registration) -> set[str]:
    """Logical names of the resources that this one waits for."""
    return {run.registrations[urn].name for urn in registration.request.dependencies}


def subnet(run: Run, name: str) -> dict[str, Any]:
    """The inputs of a subnet, by its name in Azure."""
    (found,) = [each.inputs for each in all_of(run, "Subnet") if each.inputs["subnetName"] == name]
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its dotted path, written as the recorder writes the paths of secrets."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from leaves(each, f"{path}[{place}]")
    else:
        yield path, value
