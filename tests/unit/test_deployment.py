"""How the in-process front brings a stack to what a program registers: Pulumi's options, without Pulumi's engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import resource_pb2

from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.deployment import Deployment, Step
from lab.azure.recorder import Registration
from lab.azure.rules import AzureError

GROUP = "azure-native:resources:ResourceGroup"
ADDRESS = "azure-native:network:PublicIPAddress"
ACCOUNT = Account.of("bank-a", "north")


def wanted(
    type_: str, name: str, inputs: dict[str, Any], *, secrets: tuple[str, ...] = (), **options: Any
) -> Registration:
    return Registration(
        urn=f"urn:pulumi:bank-a::project::{type_}::{name}",
        type=type_,
        name=name,
        parent="",
        custom=True,
        request=resource_pb2.RegisterResourceRequest(type=type_, name=name, **options),
        inputs=inputs,
        secrets=frozenset(secrets),
    )


def group(name: str = "ledger", location: str = "swedencentral", **options: Any) -> Registration:
    inputs = {"resourceGroupName": f"{name}-group", "location": location, "tags": options.pop("tags", {})}
    return wanted(GROUP, name, inputs, **options)


def address(location: str, *, name: str = "address", of: str = "ledger", **options: Any) -> Registration:
    inputs = {
        "resourceGroupName": f"{of}-group",
        "location": location,
        "sku": {"name": "Standard"},
        "publicIPAllocationMethod": "Static",
    }
    return wanted(ADDRESS, name, inputs, **options)


def run(deployment: Deployment, *registrations: Registration) -> dict[str, Step]:
    """One run of a program that registers these; what it did, by logical name."""
    deployment.begin()
    for each in registrations:
        deployment.apply(each)
    deployment.finish({each.urn: each for each in registrations})
    return {urn.rsplit("::", 1)[-1]: step for urn, step in deployment.steps.items()}


@contextmanager
def noted_requests() -> Iterator[list[str]]:
    """What is asked of Azure inside, in order."""
    requests: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("create", "delete"):
            patch.setattr(Subscription, kind, noting(requests, kind, getattr(Subscription, kind)))
        yield requests


def noting(requests: list[str], kind: str, request: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Subscription, token: str, name: str, *rest: Any) -> Any:
        requests.append(f"{kind} {name}")
        return request(self, token, name, *rest)

    return noted


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(OfflineAzure().account(ACCOUNT))


def test_a_run_makes_changes_and_then_nothing(deployment: Deployment) -> None:
    assert run(deployment, group()) == {"ledger": Step.CREATE}, "what is new is made"
    assert run(deployment, group()) == {"ledger": Step.SAME}, "what is as wanted is left alone"
    assert run(deployment, group(tags={"a": "b"})) == {"ledger": Step.UPDATE}, "a tag changes in place"
    assert deployment.changes == {"update": 1}, "what changed is counted by kind"


@pytest.mark.parametrize("first", [{}, {"a": "b"}], ids=["none", "one"])
def test_what_is_ignored_stays_as_it_was_made(deployment: Deployment, first: dict[str, str]) -> None:
    ignoring: dict[str, Any] = {"ignoreChanges": ["tags.a", "tags.c.d"]}
    run(deployment, group(tags=first, **ignoring))
    assert run(deployment, group(tags={"a": "other"}, **ignoring)) == {"ledger": Step.SAME}, "as Pulumi's engine does"
    (kept,) = deployment.resources.values()
    assert kept.inputs["tags"] == first


def test_what_is_no_longer_wanted_goes_the_newest_first(deployment: Deployment) -> None:
    run(deployment, group("one"), group("two"), group("three"))
    with noted_requests() as requests:
        run(deployment, group("two"))
    assert requests == ["delete three", "delete one"], "what was made last may lean on what was made first"


def test_a_protected_resource_is_neither_deleted_nor_replaced(deployment: Deployment) -> None:
    run(deployment, group(protect=True))
    with pytest.raises(AzureError, match="protected, so not deleted: ledger"):
        run(deployment)
    with pytest.raises(AzureError, match="ledger is protected and would be replaced, since location changed"):
        run(deployment, group(location="uksouth", protect=True))
    assert len(deployment.azure.resources) == 1, "protection is there to lose nothing"


def test_protection_ends_with_the_run_that_lifts_it(deployment: Deployment) -> None:
    run(deployment, group(protect=True))
    run(deployment, group())
    assert run(deployment) == {"ledger": Step.DELETE}, "two runs: one lifts, one removes"


def test_a_retained_resource_stays_in_azure(deployment: Deployment) -> None:
    run(deployment, group(retainOnDelete=True))
    assert run(deployment) == {"ledger": Step.DELETE}, "the stack forgets it"
    assert len(deployment.azure.resources) == 1, "Azure keeps it"


def test_a_replacement_of_the_same_name_wants_the_old_one_gone_first(deployment: Deployment) -> None:
    run(deployment, group())
    with pytest.raises(AzureError, match="already existing"):
        run(deployment, group(location="uksouth"))
    again = Deployment(OfflineAzure().account(ACCOUNT))
    run(again, group())
    with noted_requests() as requests:
        assert run(again, group(location="uksouth", deleteBeforeReplace=True)) == {"ledger": Step.REPLACE}
    assert requests == ["delete ledger", "create ledger"], "there is no time at which both could stand"
    assert [each.inputs["location"] for each in again.azure.resources.values()] == ["uksouth"], "one is left"


def test_a_replacement_with_an_automatic_name_is_made_before_the_old_one_goes(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral"))
    before = set(deployment.azure.resources)
    with noted_requests() as requests:
        steps = run(deployment, group(), address("uksouth"))
    assert steps["address"] is Step.REPLACE, "a public address can't move"
    assert requests == ["create address", "delete address"], "what leans on it is moved over in between"
    left = set(deployment.azure.resources)
    assert len(left) == len(before), "the old one is gone in the end"
    assert left != before, "the new one has a name of its own, so both could stand at once"


def test_a_run_that_is_cut_off_remembers_what_it_has_made_anew(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "bank-a.json"
    run(deployment, group(), address("swedencentral"))
    with pytest.raises(AzureError, match="nowhere-group is not there"):
        run(deployment, group(), address("uksouth"), address("uksouth", name="other", of="nowhere"))
    deployment.save(path)
    assert len(deployment.azure.resources) == 3, "both addresses stand until the run comes to its end"

    again = Deployment.load(deployment.azure, path)
    assert run(again, group(), address("uksouth"))["address"] is Step.SAME, "it was made anew already"
    assert len(again.azure.resources) == 2, "the old one goes with the next run, or it is paid for until found"

    cut_off = Deployment.load(deployment.azure, path)
    cut_off.destroy()
    assert not cut_off.azure.resources, "or with the whole stack"


def test_a_replacement_that_is_refused_loses_nothing(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral"))
    before = set(deployment.azure.resources)
    with pytest.raises(AzureError, match="nowhere-group is not there"):
        run(deployment, group(), address("swedencentral", of="nowhere"))
    steps = run(deployment, group(), address("swedencentral"))
    assert steps["address"] is Step.SAME, "who takes the change back has what there was"
    assert set(deployment.azure.resources) == before, "in Azure too"


def test_a_retained_resource_is_in_nobodys_way(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral", retainOnDelete=True))
    assert run(deployment, group(), address("uksouth"))["address"] is Step.REPLACE
    assert len(deployment.azure.resources) == 3, "what is retained stays in Azure when it is made anew too"
    run(deployment, group())
    assert run(deployment, group(), address("swedencentral"))["address"] is Step.CREATE, "under a name that is free"


def test_what_azure_lost_is_made_again(deployment: Deployment) -> None:
    run(deployment, group())
    deployment.azure.azure.resources.clear()
    assert run(deployment, group()) == {"ledger": Step.CREATE}, "someone deleted it by hand"


def test_of_a_secret_input_a_digest_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "bank-a.json"
    secret = group(tags={"key": "a-secret-value"}, secrets=("tags.key",))
    run(deployment, secret)
    deployment.save(path)
    assert "a-secret-value" not in path.read_text(), "a stack's file holds nothing secret"
    again = Deployment.load(deployment.azure, path)
    assert run(again, secret) == {"ledger": Step.SAME}, "the digest tells that it is the same"
    changed = group(tags={"key": "another"}, secrets=("tags.key",))
    assert run(again, changed) == {"ledger": Step.UPDATE}, "and that it is not"
