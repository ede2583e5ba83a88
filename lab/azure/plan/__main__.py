"""Prints a plan of one member's stack: a tree by component, the important settings, the outputs.

`python -m lab.azure.plan [STACK | FILE]...` plans the sample `prod` without arguments: on the Pulumi engine where a
CLI is found, else in this process. The README of this folder has the options, and the shape of the JSON.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pulumi
from rich.console import Console
from rich.markup import escape

from lab.azure.engine import EngineError, find_cli
from lab.azure.plan.changes import changes_between
from lab.azure.plan.formats import UNCUT, Format, Report, as_json, markdown, print_text
from lab.azure.plan.planned import (
    Plan,
    Source,
    keep,
    last_plan,
    plan_in_process,
    plan_next,
    plan_on_engine,
    source_of,
)
from lab.azure.rules import AzureError
from lab.azure.stack_file import StackFileError
from lab.azure.stacks import stack_path
from lab.command import OptionError, Parser, one_of, run

SAMPLE_STACK = "prod"
LAST = "last"
"""The comparison with the last run that had no comparison."""
_ON_ENGINE = (
    "Planned by the Pulumi engine, against the offline Azure; what Azure makes up is a stand-in, "
    "known once the stack is up."
)
_WITHOUT_ENGINE = (
    "Planned in this process under Pulumi's mocks: no engine, no Azure. "
    "Diffs, replacements and refreshes need the Pulumi CLI."
)
_COMPARED = (
    "Two plans of this process, compared: no engine, no Azure. "
    "A replacement is marked where the offline Azure knows of it."
)


def main(arguments: Sequence[str]) -> int:
    """Plan each stack; returns the exit status, 1 if one of them would be refused."""
    console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else UNCUT)
    errors = Console(emoji=False, stderr=True, highlight=False, soft_wrap=True)
    try:
        options = _parser().parse_intermixed_args(arguments)
        written = Format(one_of("format", options.format, [*Format]))
    except OptionError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}")
        return 1
    on_engine = not options.against and not options.without_engine and find_cli() is not None
    stacks, reports = options.stacks or [SAMPLE_STACK], []
    try:
        if len(stacks) > 1 and options.against not in ("", LAST):
            raise StackFileError(f"{len(stacks)} stacks against {options.against}; wanted one")
        for stack in stacks:
            with _working(f"planning {stack}"):
                report = _report(stack_path(stack), options.against, on_engine=on_engine)
            reports.append(report)
            if not options.against:
                _keep(report.plan, errors)
            if written is Format.TEXT:
                print_text(console, report)
            elif written is Format.MARKDOWN:
                print(markdown(report))
    except (AzureError, StackFileError, EngineError, pulumi.RunError) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}")
        return 1
    if written is Format.JSON:
        print(as_json(reports, engine=on_engine))
    else:
        said = _COMPARED if options.against else _ON_ENGINE if on_engine else _WITHOUT_ENGINE
        console.print(f"[bright_black]{said}[/]", soft_wrap=True)
    return 1 if any(each.changes and not each.changes.possible for each in reports) else 0


def _parser() -> Parser:
    parser = Parser("python -m lab.azure.plan", description="Plan stacks without Azure.", allow_abbrev=False)
    parser.add_argument("stacks", nargs="*", metavar="STACK|FILE", help=f"by default {SAMPLE_STACK}")
    parser.add_argument("--format", default=Format.TEXT.value, metavar="|".join(Format))
    parser.add_argument(
        "--against", default="", metavar=f"STACK|FILE|{LAST}", help="show what leads from there to the plan"
    )
    parser.add_argument("--without-engine", action="store_true", help="even where there is a Pulumi CLI")
    return parser


def _report(path: Path, against: str, *, on_engine: bool) -> Report:
    source = source_of(path)
    if not against:
        return Report(plan_on_engine(source) if on_engine else plan_in_process(source))
    before = (
        last_plan(source.configuration.stack) if against == LAST else _plan_in_place_of(source, stack_path(against))
    )
    after = plan_next(source, before)
    changes = changes_between(before, after.plan, after.refusals)
    return Report(after.plan, replace(changes, refused=after.refused), against)


def _plan_in_place_of(source: Source, path: Path) -> Plan:
    """The plan of another file, as if it were the stack's."""
    other = source_of(path)
    configuration = replace(other.configuration, stack=source.configuration.stack)
    return plan_in_process(replace(other, configuration=configuration, account=source.account))


def _keep(plan: Plan, errors: Console) -> None:
    try:
        keep(plan)
    except OSError as error:
        errors.print(f"[yellow]warning:[/] not saved, so AGAINST={LAST} won't find it: {escape(str(error))}")


@contextmanager
def _working(on: str) -> Iterator[None]:
    """Show a spinner during the block if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(emoji=False, stderr=True).status(on):
        yield


if __name__ == "__main__":
    run(main)
