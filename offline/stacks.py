"""Where the stacks' configurations lie, and the cards that they would publish."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from offline.azure import Account
from offline.program import (
    ORGANIZATION,
    PROJECT,
    ROOT,
    References,
    Run,
    StackConfiguration,
    read_configuration,
    run_program,
)

EXAMPLES = ROOT / "examples"


def stack_file(stack: str) -> Path | None:
    """`Pulumi.<stack>.yaml` of the project, else of an example; None where there is none."""
    name = f"Pulumi.{stack}.yaml"
    return next((path for path in (ROOT / name, *sorted(EXAMPLES.glob(f"*/{name}"))) if path.is_file()), None)


def account_of(path: Path, configuration: StackConfiguration) -> Account:
    """The made-up account of a stack's member: its organisation stands in the example's `consortium.yaml`."""
    consortium = path.with_name("consortium.yaml")
    banks = yaml.safe_load(consortium.read_text(encoding="utf-8"))["banks"] if consortium.is_file() else {}
    return Account.of(configuration.member, banks.get(configuration.member, "north"))


def planned_references(configuration: StackConfiguration) -> dict[str, Mapping[str, Any]]:
    """What the stacks that a configuration refers to would export, planned here.

    They are planned without their own peers: no member's card depends on them. A stack that no file configures
    is left out.
    """
    planned = {}
    for reference in configuration.referenced_stacks:
        organization, project, stack = reference.split("/")
        path = stack_file(stack) if (organization, project) == (ORGANIZATION, PROJECT) else None
        if path is not None:
            planned[reference] = plan_stack(path, with_peers=False).outputs
    return planned


def plan_stack(path: Path, *, with_peers: bool = True, references: References | None = None) -> Run:
    """Run the program once for the stack of a file.

    Args:
        path: the stack's configuration.
        with_peers: whether with its peers, whose stacks are planned first.
        references: what the peers' stacks export, where they have been planned already.
    """
    configuration = read_configuration(path)
    if not with_peers:
        configuration = configuration.without_peers()
    return run_program(
        configuration,
        references=planned_references(configuration) if references is None else references,
        account=account_of(path, configuration),
    )
