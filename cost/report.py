"""Bills as text, as Markdown for a pull request's comment, as JSON for tools, and as SVG."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar
from xml.sax.saxutils import escape

from cost.bill import TERMS, Bill, sum_of
from cost.prices import HOURS, PriceList, Verified
from cost.usage import Usage

COST_SCHEMA = 1
"""Version of the JSON: raised if readers have to change."""
SIGNS: Mapping[Verified, str] = {Verified.ESTIMATE: "~", Verified.ONE: "*"}
"""Marks of meters whose price is not verified, the least reliable first."""
_MEANING = "* one source, ~ an estimate: `at the least` and `at the most` say what that makes of the total."
_SUM_LABEL, _TOTAL_LABEL = "all", "total"


class Writing(StrEnum):
    """The formats of a statement."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    SVG = "svg"


@dataclass(frozen=True)
class Statement:
    """Several bills side by side, each with the bill that it is compared with."""

    price_list: PriceList
    bills: Sequence[Bill]
    summed: bool = False
    """Whether they belong to several banks and have a sum; otherwise they are sizes to choose from."""
    before: Sequence[Bill] = ()
    """The earlier bill of each bill; empty without a comparison."""
    against: str = ""
    """The name of the comparison, as the user gave it."""


class RowKind(StrEnum):
    """The kind of a row."""

    COMPONENT = "component"
    METER = "meter"
    SUM = "sum"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: RowKind
    label: str
    values: tuple[Decimal | None, ...]
    """One value for each bill, then the sum if there is one; None for no value."""


_Name = TypeVar("_Name")
Key = tuple[str, str, bool]
"""Component, meter, and whether the cost depends on usage."""


def title(statement: Statement) -> str:
    """The title: currency, region, usage, and date of the prices."""
    return "".join(f"{part}, " for part in (_unit(statement), *_usage(statement))) + _age(statement)


def _usage(statement: Statement) -> list[str]:
    """The usage values other than the defaults, as part of the title: all bills of a statement have the same."""
    stated = statement.bills[0].used.stated if statement.bills else {}
    said = ", ".join(f"{key} {_said(value)}" for key, value in stated.items())
    return [f"with {said}"] if said else []


def _unit(statement: Statement) -> str:
    regions = ", ".join(sorted({each.region for each in statement.bills}))
    return f"{statement.price_list.currency} a month of {HOURS} hours in {regions}"


def _age(statement: Statement) -> str:
    """The price list is of the day of its newest price: a bill's oldest may be years older."""
    dates = {line.date for each in statement.bills for line in each.lines} or {statement.price_list.date}
    ages = " to ".join(str(each) for each in sorted({min(dates), max(dates)}))
    return f"list prices of {ages} (price list of {statement.price_list.date})"


def headings(statement: Statement) -> list[str]:
    """Headings of the values."""
    return [*(each.stack for each in statement.bills), *([_SUM_LABEL] if statement.summed else [])]


def rows(statement: Statement) -> list[Row]:
    """Components with their meters, the most expensive first; then the sums."""
    bills = statement.bills
    found: list[Row] = []
    for component in _dearest(
        {name: [one.component(name) for one in bills] for one in bills for name in one.components}
    ):
        whole = [one.component(component) if one.has(component) else None for one in bills]
        found.append(_row(statement, RowKind.COMPONENT, component, whole))
        costs = _costs(bills, component)
        found += [_row(statement, RowKind.METER, _label(bills, key), costs[key]) for key in _dearest(costs)]
    reserved = {f"reserved for {term.lower()}": [one.reserved(term) for one in bills] for term in TERMS}
    sums: dict[str, list[Decimal | None]] = {
        "fixed": [one.fixed for one in bills],
        "by usage": [one.usage for one in bills],
        _TOTAL_LABEL: [one.total for one in bills],
        "at the least": [one.range[0] for one in bills],
        "at the most": [one.range[1] for one in bills],
        **{label: values for label, values in reserved.items() if any(each is not None for each in values)},
    }
    return [*found, *(_row(statement, RowKind.SUM, label, values) for label, values in sums.items())]


def _dearest(costs: Mapping[_Name, Sequence[Decimal | None]]) -> list[_Name]:
    whole = {name: sum_of(each for each in values if each) for name, values in costs.items()}
    return [name for name, cost in sorted(whole.items(), key=lambda item: (-item[1], str(item[0]))) if cost]


def _costs(bills: Sequence[Bill], component: str) -> dict[Key, list[Decimal | None]]:
    costs: dict[Key, list[Decimal | None]] = {}
    for place, one in enumerate(bills):
        for line in one.lines:
            if line.component == component:
                costs.setdefault(line.key, [None] * len(bills))[place] = line.cost
    return costs


def _label(bills: Sequence[Bill], key: Key) -> str:
    _, meter, usage = key
    worst = [each.verified for one in bills for each in one.lines if each.key == key]
    mark = next((sign for verified, sign in SIGNS.items() if verified in worst), "")
    return f"{meter}{' by usage' if usage else ''}{f' {mark}' if mark else ''}"


def _row(statement: Statement, kind: RowKind, label: str, values: Sequence[Decimal | None]) -> Row:
    priced = [each for each in values if each is not None]
    # A bank without a meter pays nothing for it; a bank without a total leaves the sum of all without one.
    has_sum = len(priced) == len(values) if kind is RowKind.SUM else bool(priced)
    last = [sum_of(priced) if has_sum else None] if statement.summed else []
    return Row(kind, label, (*values, *last))


@dataclass(frozen=True)
class Change:
    """The changed cost of one line."""

    stack: str
    component: str
    meter: str
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """The increase; negative for a decrease."""
        return self.after - self.before


def changes(statement: Statement) -> list[Change]:
    """The changes against the earlier bills, the largest of each stack first."""
    return [
        each
        for was, now in zip(statement.before, statement.bills, strict=True)
        for each in sorted(_differences(was, now), key=lambda change: (-abs(change.difference), change.component))
    ]


def _differences(was: Bill, now: Bill) -> Iterator[Change]:
    keys = {(each.component, each.meter) for one in (was, now) for each in one.lines}
    for component, meter in sorted(keys):
        before, after = (
            sum_of(each.cost for each in one.lines if (each.component, each.meter) == (component, meter))
            for one in (was, now)
        )
        if before != after:
            yield Change(now.stack, component, meter, before, after)


def _change_lines(statement: Statement) -> Iterator[str]:
    found = changes(statement)
    for was, now in zip(statement.before, statement.bills, strict=True):
        yield f"{now.stack}: {was.total:,.2f} -> {now.total:,.2f} ({now.total - was.total:+,.2f})"
        terms = {"region": (was.region, now.region)}
        terms |= {
            str(field.alias): (getattr(was.used, key), getattr(now.used, key))
            for key, field in Usage.model_fields.items()
        }
        for name, (before, after) in terms.items():
            if before != after:
                yield f"! {name}: {_said(before)} -> {_said(after)}"
        for each in found:
            if each.stack == now.stack:
                what = f"{each.component} {each.meter}"
                mark = "+" if each.difference > 0 else "-"
                yield f"{mark} {what}: {each.before:,.2f} -> {each.after:,.2f} ({each.difference:+,.2f})"


def _said(term: str | float | None) -> str:
    return "from the plan" if term is None else f"{term:,.15g}" if isinstance(term, float | int) else term


def as_text(statement: Statement, *, meters: bool = True) -> str:
    """A statement as text with fixed columns, with or without each component's meters."""
    names = headings(statement)
    table = [each for each in rows(statement) if meters or each.kind is not RowKind.METER]
    labels = [f"  {each.label}" if each.kind is RowKind.METER else each.label for each in table]
    first = max(map(len, labels))
    widths = [
        max(len(name), *(len(_money(each.values[place])) for each in table)) for place, name in enumerate(names)
    ]
    lines = [title(statement), "", _columns("", names, first, widths)]
    for before, each, label in zip([None, *table], table, labels, strict=False):
        if before and each.kind not in (RowKind.METER, before.kind):
            lines.append("")
        lines.append(_columns(label, map(_money, each.values), first, widths))
    lines += ["", _MEANING]
    if statement.before:
        lines += ["", f"Against {statement.against}", *_change_lines(statement)]
    return "\n".join(lines) + "\n"


def _columns(label: str, values: Iterable[str], first: int, widths: Iterable[int]) -> str:
    cells = "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=True))
    return f"{label:<{first}}{cells}".rstrip()


def _money(value: Decimal | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def as_markdown(statement: Statement) -> str:
    """A statement as a pull request's comment: sums and changes visible, meters folded."""
    table = rows(statement)
    parts = [
        f"### {title(statement)}",
        _markdown(statement, [each for each in table if each.kind is not RowKind.METER]),
    ]
    if statement.before:
        block = "\n".join(_change_lines(statement))
        parts.append(f"Against `{statement.against}`:\n\n````diff\n{block}\n````")
    whole = f"{_markdown(statement, table)}\n\n{_plain(_MEANING)}"
    parts.append(f"<details><summary>By meter</summary>\n\n{whole}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _markdown(statement: Statement, table: Sequence[Row]) -> str:
    names = headings(statement)
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for each in table:
        mark = "**" if each.kind is RowKind.COMPONENT or each.label == _TOTAL_LABEL else ""
        values = " | ".join(f"{mark}{_money(value)}{mark}" for value in each.values)
        lines.append(f"| {mark}{_plain(each.label)}{mark} | {values} |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text with its Markdown escaped."""
    return re.sub(r"([*_~])", r"\\\1", text)


def as_json(statement: Statement) -> str:
    """A statement as JSON, the same text for the same bills; docs/cost.md describes each key."""
    document = {
        "schema": COST_SCHEMA,
        "currency": statement.price_list.currency,
        "prices": statement.price_list.date.isoformat(),
        "hours": HOURS,
        "bills": [_bill(each) for each in statement.bills],
        "total": _number(sum_of(each.total for each in statement.bills)) if statement.summed else None,
        "before": [_terms(each) for each in statement.before] if statement.before else None,
        "changes": [_change(each) for each in changes(statement)] if statement.before else None,
    }
    return json.dumps(document, indent=1, sort_keys=True)


def _terms(bill: Bill) -> dict[str, Any]:
    return {
        "stack": bill.stack,
        "region": bill.region,
        "used": bill.used.model_dump(mode="json", by_alias=True),
        "total": _number(bill.total),
    }


def _bill(bill: Bill) -> dict[str, Any]:
    low, high = bill.range
    return {
        **_terms(bill),
        "fixed": _number(bill.fixed),
        "usage": _number(bill.usage),
        "low": _number(low),
        "high": _number(high),
        "reserved": {term: None if (cost := bill.reserved(term)) is None else _number(cost) for term in TERMS},
        "components": {name: _number(bill.component(name)) for name in bill.components},
        "lines": [
            {
                "component": each.component,
                "meter": each.meter,
                "units": _number(each.units),
                "cost": _number(each.cost),
                "low": _number(each.low),
                "high": _number(each.high),
                "usage": each.usage,
                "verified": each.verified.value,
                "date": each.date.isoformat(),
            }
            for each in bill.lines
        ],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "stack": change.stack,
        "component": change.component,
        "meter": change.meter,
        "before": _number(change.before),
        "after": _number(change.after),
    }


def _number(value: Decimal) -> float:
    return float(value)


_COLOURS = tuple(
    f"#{each}"
    for each in "4477aa ee6677 228833 ccbb44 66ccee aa3377 bbbbbb 222222 882255 44aa99 999933 332288".split()
)
"""Colours of Paul Tol's schemes, which most colour-blind readers can distinguish."""
_BAR, _GAP, _HEIGHT, _LEFT, _TOP = 90, 60, 320, 20, 76
_LEGEND = 260


def as_svg(statement: Statement) -> str:
    """A bar for each bill, divided into components; drawn without a library."""
    dearest = max((each.total for each in statement.bills), default=Decimal(0)) or Decimal(1)
    order = [each.label for each in rows(statement) if each.kind is RowKind.COMPONENT]
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(order)}
    legend = _LEFT + len(statement.bills) * (_BAR + _GAP)
    bottom = _TOP + _HEIGHT
    height = max(bottom, _TOP + 20 * len(order)) + 40
    shapes = [_text(_LEFT, 24, _unit(statement), size=14)]
    shapes += [_text(_LEFT, 44, ", ".join((*_usage(statement), _age(statement))))]
    for place, bill in enumerate(statement.bills):
        left, base = _LEFT + place * (_BAR + _GAP), Decimal(bottom)
        for name in order:
            part = bill.component(name) / dearest * _HEIGHT
            base -= part
            what = escape(f"{name}: {bill.component(name):,.2f}")
            if part:
                shapes.append(
                    f'<rect x="{left}" y="{base:.1f}" width="{_BAR}" height="{part:.1f}" fill="{colours[name]}">'
                    f"<title>{what}</title></rect>"
                )
        shapes.append(_text(left, int(base) - 6, f"{bill.total:,.0f}"))
        shapes.append(_text(left, bottom + 18, bill.stack))
    for place, name in enumerate(order):
        top = _TOP + 20 * place
        shapes.append(f'<rect x="{legend}" y="{top}" width="12" height="12" fill="{colours[name]}"/>')
        shapes.append(_text(legend + 18, top + 11, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{legend + _LEGEND}" height="{height}" role="img">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def _text(left: int, top: int, text: str, *, size: int = 12) -> str:
    return f'<text x="{left}" y="{top}" font-family="sans-serif" font-size="{size}">{escape(text)}</text>'


WRITERS = {Writing.TEXT: as_text, Writing.MARKDOWN: as_markdown, Writing.JSON: as_json, Writing.SVG: as_svg}
