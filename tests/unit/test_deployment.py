"""How the in-process front updates a stack to a program's registrations: Pulumi's options, without its engine."""

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
NAT = "azure-native:network:NatGateway"
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


def nat(of: str, **options: Any) -> Registration:
    """A gateway that is replaced with its address, whose id is `of`."""
    inputs = {"resourceGroupName": "ledger-group", "publicIpAddresses": [{"id": of}]}
    return wanted(NAT, "nat", inputs, replaceOnChanges=["publicIpAddresses"], **options)


def run(
    deployment: Deployment, *registrations: Registration, then: Callable[[], Registration] | None = None
) -> dict[str, Step]:
    """Run a program that registers these, and `then` what depends on them; returns the steps by logical name."""
    deployment.begin()
    for each in registrations:
        deployment.apply(each)
    if then is not None:
        registrations = (*registrations, then())
        deployment.apply(registrations[-1])
    deployment.finish({each.urn: each for each in registrations})
    return {urn.rsplit("::", 1)[-1]: step for urn, step in deployment.steps.items()}


@contextmanager
def noted_requests() -> Iterator[list[str]]:
    """The requests to Azure within the block, in order."""
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
    assert run(deployment, group()) == {"ledger": Step.CREATE}, "a new resource is created"
    assert run(deployment, group()) == {"ledger": Step.SAME}, "an unchanged resource is not touched"
    assert run(deployment, group(tags={"a": "b"})) == {"ledger": Step.UPDATE}, "a tag is changed in place"
    assert deployment.changes == {"update": 1}, "changes are counted by kind"


@pytest.mark.parametrize("first", [{}, {"a": "b"}], ids=["none", "one"])
def test_ignored_inputs_keep_their_first_value(deployment: Deployment, first: dict[str, str]) -> None:
    ignoring: dict[str, Any] = {"ignoreChanges": ["tags.a", "tags.c.d"]}
    run(deployment, group(tags=first, **ignoring))
    assert run(deployment, group(tags={"a": "other"}, **ignoring)) == {"ledger": Step.SAME}, "as Pulumi's engine does"
    (resource,) = deployment.resources.values()
    assert resource.inputs["tags"] == first


def test_removed_resources_are_deleted_in_reverse_order_of_creation(deployment: Deployment) -> None:
    run(deployment, group("one"), group("two"), group("three"))
    with noted_requests() as requests:
        run(deployment, group("two"))
    assert requests == ["delete three", "delete one"], "later resources may depend on earlier ones"


def test_a_protected_resource_is_neither_deleted_nor_replaced(deployment: Deployment) -> None:
    run(deployment, group(protect=True))
    with pytest.raises(AzureError, match="protected, so not deleted: ledger"):
        run(deployment)
    with pytest.raises(AzureError, match="ledger is protected and would be replaced, since location changed"):
        run(deployment, group(location="uksouth", protect=True))
    assert len(deployment.azure.resources) == 1, "protection prevents data loss"


def test_a_run_that_removes_the_protection_allows_a_later_deletion(deployment: Deployment) -> None:
    run(deployment, group(protect=True))
    run(deployment, group())
    assert run(deployment) == {"ledger": Step.DELETE}, "two runs: one removes the protection, one the resource"


def test_a_retained_resource_stays_in_azure(deployment: Deployment) -> None:
    run(deployment, group(retainOnDelete=True))
    assert run(deployment) == {"ledger": Step.DELETE}, "it is no longer in the stack"
    assert len(deployment.azure.resources) == 1, "it still exists in Azure"


def test_a_replacement_of_the_same_name_is_made_after_the_deletion(deployment: Deployment) -> None:
    run(deployment, group())
    with pytest.raises(AzureError, match="already existing"):
        run(deployment, group(location="uksouth"))
    again = Deployment(OfflineAzure().account(ACCOUNT))
    run(again, group())
    with noted_requests() as requests:
        assert run(again, group(location="uksouth", deleteBeforeReplace=True)) == {"ledger": Step.REPLACE}
    assert requests == ["delete ledger", "create ledger"], "both can't exist at the same time"
    assert [each.inputs["location"] for each in again.azure.resources.values()] == ["uksouth"], "one remains"


def test_a_replacement_with_an_automatic_name_is_made_before_the_deletion(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral"))
    before = set(deployment.azure.resources)
    with noted_requests() as requests:
        steps = run(deployment, group(), address("uksouth"))
    assert steps["address"] is Step.REPLACE, "the address of a public IP can't be changed in place"
    assert requests == ["create address", "delete address"], "dependants are updated in between"
    left = set(deployment.azure.resources)
    assert len(left) == len(before), "the old one is deleted in the end"
    assert left != before, "the new one has another name, so both can exist at once"


def test_a_part_of_an_input_may_replace_a_resource(deployment: Deployment) -> None:
    def gateway(**sku: str) -> Registration:
        inputs = {"resourceGroupName": "ledger-group", "sku": sku}
        return wanted(NAT, "nat", inputs, replaceOnChanges=["sku.name"])

    run(deployment, group(), gateway(name="Standard"))
    assert run(deployment, group(), gateway(name="Standard", tier="Regional"))["nat"] is Step.UPDATE
    assert run(deployment, group(), gateway(name="StandardV2", tier="Regional"))["nat"] is Step.REPLACE


@pytest.mark.parametrize("protect", [False, True])
def test_what_a_replacement_replaces_too_is_deleted_before_it(deployment: Deployment, *, protect: bool) -> None:
    def up(location: str) -> None:
        made = [group(), address(location, deleteBeforeReplace=True)]
        run(deployment, *made, then=lambda: nat(deployment.resources[made[1].urn].id, protect=protect))

    up("swedencentral")
    with noted_requests() as requests:
        if protect:
            with pytest.raises(AzureError, match="nat is protected and would be replaced with address"):
                up("uksouth")
            assert not requests, "nothing is deleted before the refusal"
            return
        up("uksouth")
    assert requests == ["delete nat", "delete address", "create address", "create nat"], (
        "Azure deletes no address that is in use"
    )


def test_an_interrupted_run_remembers_its_replacements(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "bank-a.json"
    run(deployment, group(), address("swedencentral"))
    with pytest.raises(AzureError, match="nowhere-group is not there"):
        run(deployment, group(), address("uksouth"), address("uksouth", name="other", of="nowhere"))
    deployment.save(path)
    assert len(deployment.azure.resources) == 3, "both addresses exist until a run ends"

    again = Deployment.load(deployment.azure, path)
    assert run(again, group(), address("uksouth"))["address"] is Step.SAME, "the replacement exists already"
    assert len(again.azure.resources) == 2, "the next run deletes the old one, which otherwise stays and costs money"

    cut_off = Deployment.load(deployment.azure, path)
    cut_off.destroy()
    assert not cut_off.azure.resources, "so does the deletion of the stack"


def test_a_refused_replacement_has_no_effect(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral"))
    before = set(deployment.azure.resources)
    with pytest.raises(AzureError, match="nowhere-group is not there"):
        run(deployment, group(), address("swedencentral", of="nowhere"))
    steps = run(deployment, group(), address("swedencentral"))
    assert steps["address"] is Step.SAME, "after a revert the stack is unchanged"
    assert set(deployment.azure.resources) == before, "so is Azure"


def test_a_retained_resource_blocks_no_replacement(deployment: Deployment) -> None:
    run(deployment, group(), address("swedencentral", retainOnDelete=True))
    assert run(deployment, group(), address("uksouth"))["address"] is Step.REPLACE
    assert len(deployment.azure.resources) == 3, "a retained resource stays in Azure when it is replaced, too"
    run(deployment, group())
    assert run(deployment, group(), address("swedencentral"))["address"] is Step.CREATE, (
        "the replacement has a free name"
    )


def test_a_resource_that_was_deleted_by_hand_is_created_again(deployment: Deployment) -> None:
    run(deployment, group())
    deployment.azure.azure.resources.clear()
    assert run(deployment, group()) == {"ledger": Step.CREATE}, "it was deleted outside of Pulumi"


def test_the_state_has_a_digest_of_a_secret_input(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "bank-a.json"
    secret = group(tags={"key": "a-secret-value"}, secrets=("tags.key",))
    run(deployment, secret)
    deployment.save(path)
    assert "a-secret-value" not in path.read_text(), "a stack's file holds nothing secret"
    again = Deployment.load(deployment.azure, path)
    assert run(again, secret) == {"ledger": Step.SAME}, "an equal digest is no change"
    changed = group(tags={"key": "another"}, secrets=("tags.key",))
    assert run(again, changed) == {"ledger": Step.UPDATE}, "another digest is a change"
