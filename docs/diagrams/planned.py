"""The picture of stacks' planned resources, each planned in this process."""

from pathlib import Path

from docs.diagrams.consortium import picture_of_consortium
from docs.diagrams.member import picture_of_member
from docs.diagrams.picture import Picture
from docs.diagrams.stack import Stack, stack_of
from lab.azure.azure import Account
from lab.azure.consortium import full_name
from lab.azure.plan.planned import Plan, Source, plan_in_process, source_of
from lab.azure.program import read_configuration
from lab.azure.stack_file import StackFileError
from lab.azure.stacks import account_of, organizations, stack_path
from policy.resources import StackResource


def planned_picture(what: str) -> Picture:
    """A member's picture, or a consortium's.

    Args:
        what: a stack, its file, or a folder whose `consortium.yaml` lists a consortium's banks.

    Raises:
        StackFileError: there is no such file, or it can't be read.
        RunError: the program refuses a stack.
        AzureError: the offline Azure refuses it.
    """
    folder = Path(what)
    return (
        _consortium(folder)
        if folder.is_dir()
        else picture_of_member(_stack(plan_in_process(source_of(stack_path(what)))))
    )


def tenants(folder: Path) -> dict[str, str]:
    """The organisations of a consortium's banks, by their Entra tenants' ids."""
    return {Account.of(bank, name).tenant_id: name for bank, name in organizations(folder).items()}


def _consortium(folder: Path) -> Picture:
    """Each bank is planned twice: alone, for its card, then linked to the others."""
    paths = [folder / f"Pulumi.{stack}.yaml" for stack in organizations(folder)]
    if not paths:
        raise StackFileError(f"{folder}: no consortium.yaml that lists banks; wanted one, or a stack")
    configurations = [read_configuration(path) for path in paths]
    accounts = [account_of(path, each) for path, each in zip(paths, configurations, strict=True)]
    banks = list(zip(paths, configurations, accounts, strict=True))
    cards = {
        full_name(each.stack): plan_in_process(Source(path, each.without_peers(), {}, account)).outputs
        for path, each, account in banks
    }
    plans = [plan_in_process(Source(path, each, cards, account)) for path, each, account in banks]
    return picture_of_consortium([_stack(each) for each in plans], tenants(folder))


def _stack(plan: Plan) -> Stack:
    resources = [
        StackResource(each.urn, each.type, each.name, each.inputs, each.id) for each in plan.resources if each.custom
    ]
    return stack_of(resources, plan.outputs)
