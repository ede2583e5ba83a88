"""Runs of the whole program, each cached for all tests, and functions to find a run's registrations."""

import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import pulumi

from contract.card import COEXISTENCE_ASN
from cost.bill import Bill
from cost.prices import read_price_list
from cost.stacks import Terms, bills_of_sizes
from cost.usage import Usage
from lab.azure import program
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.consortium import reference
from lab.azure.deployment import Deployment
from lab.azure.program import ORGANIZATION, PROJECT, Program, Run, StackConfiguration, read_configuration, run_program
from lab.azure.recorder import STACK_TYPE, Recorder, Registration
from lab.azure.stacks import account_of, stack_file
from lab.echo import ECHO
from ledger import PLATFORMS
from ledger.corda import CORDA
from policy.nsg import Traffic
from policy.resources import StackResource, StackResources
from stack.settings import EXPRESS_ROUTE_KEY
from tests.configuration import SSH_PUBLIC_KEY, configuration

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
    """A run, with what its monitor recorded besides the requests."""

    ids: Mapping[str, str]
    """Resource ids by URN."""
    answers: Mapping[str, Mapping[str, Any]]
    """The offline Azure's answers by URN: inputs and computed outputs."""
    component_outputs: Mapping[str, Mapping[str, Any]]
    """The registered outputs of each component, by URN."""
    secret_component_outputs: Mapping[str, frozenset[str]]
    """Paths of the secret ones, by URN."""


@dataclass(frozen=True)
class Refusal:
    """The program's error message, and the URNs that it had registered by then."""

    message: str
    registered: tuple[str, ...]


def once(make: Callable[..., Plan]) -> Callable[..., Plan]:
    """Cache a function's runs, including failed ones: a broken program must not run again for each of many tests."""
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
    """Collect the monitors of the runs inside the block."""
    made: list[Recorder] = []

    class Collected(Recorder):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    with patch.object(program, "Recorder", Collected):
        yield made


def planned(stack: StackConfiguration, *others: Run, account: Account | None = None, unknown: bool = False) -> Plan:
    """Run the program for one member, in an Azure that has the resources of other members' runs."""
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
    return _plan(run, recorder)


def planned_program(
    make: Program,
    azure: Subscription,
    *,
    values: Mapping[str, str] = MappingProxyType({}),
    unknown: bool = False,
) -> Plan:
    """Run another program in place of `__main__.py`.

    Args:
        make: registers the resources.
        azure: the subscription, with its existing resources.
        values: configuration by full key, including the namespace.
        unknown: whether new resources' ids and computed outputs stay unknown, as in a first preview.
    """
    with _recorders() as recorders:
        run = run_program(
            StackConfiguration("other", values), deployment=Deployment(azure), unknown=unknown, program=make
        )
    (recorder,) = recorders
    return _plan(run, recorder)


def _plan(run: Run, recorder: Recorder) -> Plan:
    components = [urn for urn in recorder.outputs if urn.split("::")[2] != STACK_TYPE]
    return Plan(
        **vars(run),
        ids={urn: made.id for urn, made in recorder.resources.items()},
        answers={urn: made.state for urn, made in recorder.resources.items()},
        component_outputs={urn: recorder.outputs[urn] for urn in components},
        secret_component_outputs={urn: recorder.secret_outputs[urn] for urn in components},
    )


def refusal(
    *,
    references: Mapping[str, Mapping[str, Any]] | None = None,
    outputs: Mapping[str, Any] | None = None,
    azure: Subscription | None = None,
    **changes: Any,
) -> Refusal:
    """Run bank-a's smallest configuration with changes that the program must refuse.

    Args:
        references: outputs of other stacks.
        outputs: the stack's outputs of its last update.
        azure: its subscription; by default in an Azure without other members.
        changes: changes to the configuration, as for `configuration`.
    """
    own = azure or OfflineAzure().account(Account.of("bank-a", ORGANIZATION))
    deployment = Deployment(own, outputs=dict(outputs or {}))
    with _recorders() as recorders:
        try:
            run_program(
                StackConfiguration("bank-a", configuration(**changes)),
                references=references or {},
                deployment=deployment,
            )
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
    """One bank of the example consortium, with its links, or without any as before it joined."""
    path = _file(name)
    stack = read_configuration(path)
    if not linked:
        return planned(stack.without_peers(), account=account_of(path, stack), unknown=unknown)
    # Bank A's card comes from its linked run: a card does not depend on links, which a test shows.
    others = [bank(other, linked=other == "bank-a") for other in _referenced(stack)]
    return planned(stack, *others, account=account_of(path, stack), unknown=unknown)


def _referenced(stack: StackConfiguration) -> list[str]:
    return [reference.rsplit("/", 1)[1] for reference in stack.referenced_stacks]


def bank_a_over_ipsec() -> Plan:
    """Bank A, whose link to bank B is `ipsec` although both are in one tenant."""
    path = _file("bank-a")
    stack = read_configuration(path)
    stack = stack.with_peers([{**peer, "link": "ipsec"} for peer in stack.peers])
    others = [bank(other, linked=False) for other in _referenced(stack)]
    return planned(stack, *others, account=account_of(path, stack))


@once
def renewed(name: str) -> Plan:
    """Bank A with a rotated link key, or bank B run again after that."""
    path = _file(name)
    stack = read_configuration(path)
    if name == "bank-a":
        stack = replace(stack, values={**stack.values, f"{PROJECT}:keyGenerations": json.dumps({"link": 2})})
    others = [renewed(other) if other == "bank-a" else bank(other, linked=False) for other in _referenced(stack)]
    return planned(stack, *others, account=account_of(path, stack))


@once
def sample(stack_name: str) -> Plan:
    """A stack whose file is beside the program: `dev` or `prod`."""
    path = _file(stack_name)
    stack = read_configuration(path)
    others = [bank(other, linked=False) for other in _referenced(stack)]
    return planned(stack, *others, account=account_of(path, stack))


@cache
def size_bills() -> list[Bill]:
    """The bills of the three sizes, from a run of the program for each."""
    return list(bills_of_sizes(Terms(read_price_list(), Usage())))


# --- A member with everything, and a member with the minimum -------------------------------------------------------


_CONNECTIVITY = {"expressRoute": {"circuitId": CIRCUIT}}
_SECRET_KEYS = (f"{PROJECT}:{EXPRESS_ROUTE_KEY}",)


@once
def large(*, unknown: bool = False) -> Plan:
    """Bank A with everything: both gateways, a VNet-to-VNet link to B, IPsec to C, applications, operators, alerts.

    It is the network's authority and runs its notary.
    """
    others = [bank(name, linked=False) for name in ("bank-b", "bank-c")]
    values = configuration(
        size="large",
        ledger={
            "roles": {"node-1": "notary"},
            "rpcUsers": RPC_USERS,
            "network": {"authority": "bank-a"},
        },
        peers=[reference(_file(other.stack)) for other in others],
        connectivity={"vpn": {"sku": "VpnGw2AZ"}, **_CONNECTIVITY},
        gatewayReaders=[READER],
        applicationNetworks=[APPLICATIONS],
        operators=[OPERATORS],
        alerts={"emails": [MAIL]},
        monitoring={"budget": 4000},
        tags=TAGS,
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
    )
    return planned(StackConfiguration("bank-a", values, _SECRET_KEYS), *others, unknown=unknown)


@once
def bare() -> Plan:
    """Bank A with the minimum: an image, no database, a region without zones, a circuit and no VPN gateway."""
    subscription = CIRCUIT.partition("/resourceGroups")[0]
    image = f"{subscription}/resourceGroups/r/providers/Microsoft.Compute/galleries/g/images/i/versions/1.0.0"
    values = configuration(
        size="small",
        nodes={"sshPublicKey": SSH_PUBLIC_KEY, "image": {"id": image}},
        location="westus",
        connectivity=_CONNECTIVITY,
        peers=[reference(_file("bank-b"))],
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
    )
    # Before the platform is changed: this run is cached for all tests.
    other = bank("bank-b", linked=False)
    with patch.dict(PLATFORMS, {CORDA.name: replace(CORDA, database=None)}):
        return planned(StackConfiguration("bank-a", values, _SECRET_KEYS), other)


def beside_a_circuit() -> Plan:
    """Bank A with both gateways and Azure's own ASN, linked to B."""
    values = configuration(
        size="small",
        bank={"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "asn": COEXISTENCE_ASN},
        connectivity={"vpn": {}, **_CONNECTIVITY},
        peers=[reference(_file("bank-b"))],
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
    )
    return planned(StackConfiguration("bank-a", values, _SECRET_KEYS), bank("bank-b", linked=False))


def founder(**network: Any) -> Plan:
    """Bank A alone, founding a network, with these keys in `ledger.network`."""
    ledger = {"roles": {"node-1": "notary"}, "network": {"authority": "bank-a", **network}}
    return planned(StackConfiguration("bank-a", configuration(ledger=ledger)))


ECHO_ROUTED = ("10.2.0.0/16", APPLICATIONS)
"""The ranges that its gateway learns: the peer's and the applications'."""


@once
def echo() -> Plan:
    """Bank A on a second platform, linked to B, with applications."""
    values = configuration(
        ledger={"platform": ECHO.name},
        bank={"name": "bank-a", "legalName": " Bank  A ", "asn": 64512},
        peers=[{"name": "bank-b", "stack": stack_of("bank-b")}],
        applicationNetworks=[APPLICATIONS],
    )
    other = read_configuration(_file("bank-b")).without_peers()
    other = replace(other, values={**other.values, f"{PROJECT}:ledger": json.dumps({"platform": ECHO.name})})
    with patch.dict(PLATFORMS, {ECHO.name: ECHO}):
        return planned(StackConfiguration("bank-a", values), planned(other))


# --- Lookups -------------------------------------------------------------------------------------------------------


def all_of(run: Run, kind: str) -> list[Registration]:
    """The registrations of one type, by the end of its token: `Subnet`, or `network:Subnet`."""
    return [each for each in run.registrations.values() if each.type.endswith(f":{kind}")]


def one(run: Run, kind: str, name: str | None = None) -> Registration:
    """The only registration of a type, or the only one with this logical name."""
    found = [each for each in all_of(run, kind) if name in (None, each.name)]
    assert len(found) == 1, f"{len(found)} x {kind} {name or ''}; wanted one"
    return found[0]


def resources(run: Run) -> list[Registration]:
    """All registrations that are not components."""
    return [each for each in run.registrations.values() if each.custom]


def components(run: Run) -> list[Registration]:
    """All components."""
    return [each for each in run.registrations.values() if not each.custom]


def depends_on(run: Run, registration: Registration) -> set[str]:
    """Logical names of the resources that this registration depends on."""
    return {run.registrations[urn].name for urn in registration.request.dependencies}


def waits_for(run: Run, registration: Registration) -> list[Registration]:
    """All resources that must be created before this one: its dependencies, their dependencies, and so on."""
    found: dict[str, Registration] = {}
    waiting = [registration]
    while waiting:
        for urn in waiting.pop().request.dependencies:
            if urn not in found:
                found[urn] = run.registrations[urn]
                waiting.append(found[urn])
    return list(found.values())


def takes_tags(registration: Registration) -> bool:
    """Whether the azure-native class of a resource has the input `tags`."""
    package, module, name = registration.type.split(":")
    if package != "azure-native":
        return False
    resource_class = getattr(import_module(f"pulumi_azure_native.{module}"), name)
    overloads = typing.get_overloads(resource_class.__init__)
    assert overloads, f"{registration.type}: the SDK no longer states its inputs"
    return any("tags" in signature(each).parameters for each in overloads)


def subnet(run: Run, name: str) -> dict[str, Any]:
    """The inputs of a subnet, by its name in Azure."""
    (found,) = [each.inputs for each in all_of(run, "Subnet") if each.inputs["subnetName"] == name]
    return found


def deployed(run: Run) -> StackResources:
    """The run's resources in the form that the checklist reads."""
    ids, answers = getattr(run, "ids", {}), getattr(run, "answers", {})
    return StackResources(
        tuple(
            StackResource(each.urn, each.type, each.name, each.inputs, ids.get(each.urn), answers.get(each.urn))
            for each in resources(run)
        )
    )


def traffic_of(run: Run, *, routed: Sequence[str] = ()) -> Traffic:
    """The run's network security rules, to test which connections they allow; `routed`: ranges learned by BGP."""
    return Traffic(deployed(run), routed=routed)
