"""The stacks' configuration files, and the cards that they would publish."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import yaml

from lab import ROOT
from lab.azure.azure import Account
from lab.azure.program import (
    ORGANIZATION,
    PROJECT,
    Run,
    StackConfiguration,
    read_configuration,
    run_program,
)
from lab.azure.stack_file import StackFileError, is_file, is_folder, read_document
from stack import rows
from stack.card import own_card
from stack.member import read_member
from stack.outputs import CARD_OUTPUT

EXAMPLES = ROOT / "examples"
_CONSORTIUM = "consortium.yaml"
_ORGANIZATION = "north"


def stack_file(stack: str) -> Path | None:
    """`Pulumi.<stack>.yaml` of the project, otherwise of an example; None if there is none."""
    name = f"Pulumi.{stack}.yaml"
    paths = [folder / name for folder in (ROOT, *sorted(EXAMPLES.iterdir()))]
    return next((path for path in paths if is_file(path)), None)


def stack_path(stack: str) -> Path:
    """The file of a stack that is given by name or by file.

    Raises:
        StackFileError: there is none.
    """
    path, by_path = Path(stack), "/" in stack or stack.endswith((".yaml", ".yml"))
    if not by_path and (found := stack_file(stack)):
        return found
    if by_path and stack.endswith(".yaml") and is_file(path):
        return path
    if stack and is_folder(path):
        raise StackFileError(f"{stack:.200}: a folder; wanted a stack's file, such as {path / 'Pulumi.dev.yaml'}")
    if is_file(path):
        raise StackFileError(f"{stack:.200}: not a stack's file; wanted one such as Pulumi.dev.yaml")
    if by_path:
        raise StackFileError(f"{stack:.200}: no such file; wanted a stack's, such as Pulumi.dev.yaml")
    raise StackFileError(f"no configuration of stack {stack:.200}; wanted Pulumi.{stack:.200}.yaml")


def account_of(path: Path, configuration: StackConfiguration) -> Account:
    """The made-up account of a stack's member; its organisation is in `consortium.yaml` beside its file."""
    return Account.of(configuration.member, organizations(path.parent).get(configuration.member, _ORGANIZATION))


def enrolled(folder: Path, source: Path, member: str, organization: str | None = None) -> Account:
    """The account of a bank in a consortium, whose organisation is recorded in the consortium's folder.

    Args:
        folder: the consortium's, which has a `consortium.yaml`.
        source: the bank's configuration: what stands beside it counts where the folder has nothing yet.
        member: the bank.
        organization: its organisation, where somebody states it.

    Raises:
        StackFileError: it is another one already.
    """
    recorded = organizations(folder)
    own = recorded.get(member) or organization or organizations(source.parent).get(member, _ORGANIZATION)
    if organization not in (None, own):
        raise StackFileError(
            f"{member} is of organisation {own} here; wanted no other one until `down` deletes the consortium"
        )
    if recorded.get(member) != own:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONSORTIUM).write_text(yaml.safe_dump({"banks": {**recorded, member: own}}), encoding="utf-8")
    return Account.of(member, own)


def organizations(folder: Path) -> dict[str, str]:
    """The organisation of each bank that a folder's `consortium.yaml` lists; empty without such a file.

    Raises:
        StackFileError: it lists no banks.
    """
    file = folder / _CONSORTIUM
    if not file.is_file():
        return {}
    banks = read_document(file).get("banks")
    if not isinstance(banks, dict) or not all(isinstance(each, str) for pair in banks.items() for each in pair):
        raise StackFileError(f"{file}: banks is {banks!r}; wanted the organisation of each bank by its name")
    return banks


def planned_references(configuration: StackConfiguration) -> dict[str, Mapping[str, Any]]:
    """The outputs of the stacks that a configuration refers to, planned here.

    Each one exports its card alone, which depends on none of its own peers. A stack that no file configures is left
    out.
    """
    planned = {}
    for reference in configuration.referenced_stacks:
        organization, project, stack = reference.split("/")
        path = stack_file(stack) if (organization, project) == (ORGANIZATION, PROJECT) else None
        if path is not None:
            peer = read_configuration(path).without_peers()
            planned[reference] = run_program(peer, account=account_of(path, peer), program=_export_card).outputs
    return planned


async def _export_card() -> None:
    """The rows of `__main__.py` that a card needs: a third of the time of all of them."""
    member = await read_member()
    keys = rows.membership_keys(member)
    group = rows.member_group(member)
    site = rows.Site(member, group, rows.monitoring(member, group))
    gateway = rows.vpn_gateway(site, rows.member_network(site))
    pulumi.export(CARD_OUTPUT, own_card(member, keys, gateway))


def plan_alone(path: Path) -> Run:
    """Run the program once for the stack of a file, without its peers."""
    configuration = read_configuration(path).without_peers()
    return run_program(configuration, account=account_of(path, configuration))
