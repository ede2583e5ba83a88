"""Prints what members cost a month: `python -m cost [STACK | FILE]...`, by default the three sizes side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pulumi

from cost.prices import PriceError, read_price_list
from cost.report import WRITERS, Statement, Writing
from cost.stacks import Terms, bill_of, bills_of_sizes, keep, last_bill
from cost.usage import Usage, UsageError, read_usage
from lab.azure.rules import AzureError
from lab.azure.stack_file import StackFileError
from lab.azure.stacks import stack_path
from lab.command import OptionError, Parser, one_of, run

LAST = "last"
"""Value of `--against`: the bill of the last run without a comparison."""


def main(arguments: Sequence[str]) -> int:
    """Bill each stack; returns the exit status, 1 where one can't be billed."""
    try:
        options = _parser().parse_intermixed_args(arguments)
        writing = Writing(one_of("format", options.format, [*Writing]))
        statement = _statement(options.stacks, options.region, options.usage, options.against)
    except (OptionError, PriceError, UsageError, AzureError, StackFileError, pulumi.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options.against:
        _keep(statement)
    print(WRITERS[writing](statement).removesuffix("\n"))
    return 0


def _parser() -> Parser:
    parser = Parser("python -m cost", description="What stacks cost a month.", allow_abbrev=False)
    parser.add_argument("stacks", nargs="*", metavar="STACK|FILE", help="by default the three sizes")
    parser.add_argument("--format", default=Writing.TEXT.value, metavar="|".join(Writing))
    parser.add_argument("--region", default="", help="an Azure region instead of the stack's own")
    parser.add_argument("--usage", default="", metavar="FILE", help="a YAML file with what is used")
    parser.add_argument("--against", default="", metavar=f"STACK|FILE|{LAST}", help="show what differs from that")
    return parser


def _statement(stacks: Sequence[str], region: str, usage: str, against: str) -> Statement:
    if against not in ("", LAST) and len(stacks) != 1:
        given = f"{len(stacks)} stacks" if stacks else "the three sizes"
        raise StackFileError(f"{given} against {against}; wanted one stack")
    terms = Terms(read_price_list(), read_usage(Path(usage)) if usage else Usage(), region)
    bills = [bill_of(stack_path(each), terms) for each in stacks] if stacks else bills_of_sizes(terms)
    if twice := {each.stack for each in bills if [one.stack for one in bills].count(each.stack) > 1}:
        raise StackFileError(f"{', '.join(sorted(twice))}: given more than once; wanted each stack once")
    if against == LAST:
        before = [last_bill(each.stack) for each in bills]
    else:
        before = [bill_of(stack_path(against), terms, each.stack) for each in bills if against]
    return Statement(terms.price_list, bills, summed=len(stacks) > 1, before=before, against=against)


def _keep(statement: Statement) -> None:
    try:
        for each in statement.bills:
            keep(each)
    except OSError as error:
        print(f"warning: not saved, so AGAINST={LAST} won't find it: {error}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
