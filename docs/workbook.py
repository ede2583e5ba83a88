"""Draws the workbook of a bank from the results of its queries for a real run: docs/workbook.svg.

`python -m docs.workbook` writes it. The picture names what it was made from, by which a test finds it stale.
"""

import hashlib
import sys
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from components import queries
from components.workbook import STATES, QueryItem, View, filled, sections, values
from lab import ROOT, kql, telemetry
from lab.bank_of_three import RECORDED_BANK
from lab.recording import RECORDED

PICTURE = ROOT / "docs" / "workbook.svg"

_WIDTH, _MARGIN, _LINE = 1240, 20, 22
_TILE_WIDTH, _TILE_HEIGHT, _CHART_HEIGHT = 236, 74, 150
_COLOURS = {0: "#107c10", 1: "#c77700", 2: "#c50f1f"}
_SERIES = ("#0f6cbd", "#c77700", "#107c10")
_MOST_ROWS, _MOST_LETTERS = 6, 62

_Table = list[dict[str, Any]]


def made_from() -> str:
    """A digest of all inputs of the picture."""
    shown = [
        item.query for section in sections(RECORDED_BANK) for item in section.items if isinstance(item, QueryItem)
    ]
    files = [
        *(Path(queries.__file__).parent / f"{name}.kql" for name in shown),
        *(Path(module) for module in (kql.__file__, telemetry.__file__, __file__)),
        RECORDED,
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def draw() -> str:
    """The picture, as SVG."""
    end, rows = telemetry.recorded()
    connection, known = kql.workspace(**rows), values(RECORDED_BANK)
    parts: list[str] = []
    y = 62.0
    for section in sections(RECORDED_BANK):
        shown = [item for item in section.items if isinstance(item, QueryItem)]
        if not shown:
            continue
        parts.append(_text(_MARGIN, y, section.title, "h"))
        y += 14
        left, row_height = 0.0, 0.0
        for item in shown:
            if left + item.width > 100:
                y, left, row_height = y + row_height, 0.0, 0.0
            usable = _WIDTH - 2 * _MARGIN
            x, width = _MARGIN + usable * left / 100, usable * item.width / 100 - 12
            table = kql.answer(connection, filled(item.query, known), now=end)
            drawn, height = _item(item, table, x, y, width)
            parts += drawn
            left, row_height = left + item.width, max(row_height, height)
        y += row_height + 26
    title = _text(_MARGIN, 28, f"Decentralized trust: {RECORDED_BANK.member}", "t") + _text(
        _WIDTH - _MARGIN - 190, 28, "Time range: last 24 hours", "p"
    )
    style = (
        "text{font:13px 'Segoe UI',Arial,sans-serif;fill:#242424}.t{font-size:20px;font-weight:600}"
        ".f{fill:#fff;stroke:#d1d1d1}.h{font-size:16px;font-weight:600}.i{font-weight:600}.b{font-size:24px}.p,.c{fill:#616161}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y:.0f}" width="{_WIDTH}">'
        f"<!-- made from {made_from()} --><style>{style}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{title}{"".join(parts)}</svg>\n'
    )


def _item(item: QueryItem, table: _Table, x: float, y: float, width: float) -> tuple[list[str], float]:
    heading = [_text(x, y + 16, item.title, "i")]
    if not table:
        return [*heading, _text(x, y + 40, "Nothing in this time.", "c")], 60
    drawing = {View.TILES: _tiles, View.LINES: _lines, View.TABLE: _rows}[item.view]
    drawn, height = drawing(table, x, y + 26, width)
    return [*heading, *drawn], height + 40


def _tiles(table: _Table, x: float, y: float, width: float) -> tuple[list[str], float]:
    columns = int(width // _TILE_WIDTH)
    drawn = []
    for place, row in enumerate(table):
        left, top = x + place % columns * _TILE_WIDTH, y + place // columns * (_TILE_HEIGHT + 10)
        drawn += [
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{_TILE_WIDTH - 12}" height="{_TILE_HEIGHT}" class="f"/>',
            _text(left + 12, top + 22, row["Title"], "c"),
            _text(left + 12, top + 56, row["Value"], "b"),
            _state(left + _TILE_WIDTH - 80, top + 55, row["State"]),
        ]
    return drawn, -(-len(table) // columns) * (_TILE_HEIGHT + 10)


def _rows(table: _Table, x: float, y: float, width: float) -> tuple[list[str], float]:
    names = [name for name in table[0] if name != "Order"]
    cells = [[_cell(row[name]) for name in names] for row in table[:_MOST_ROWS]]
    widths = [max(len(name), *(len(row[place]) for row in cells)) + 2.0 for place, name in enumerate(names)]
    scale = min(8.0, width / sum(widths))
    drawn = [f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_LINE}" fill="#f5f5f5"/>']
    for line, row in enumerate([names, *cells]):
        left, top = x, y + 16 + line * _LINE
        for name, text, size in zip(names, row, widths, strict=True):
            if name == "State" and line:
                drawn.append(_state(left + 8, top, table[line - 1]["State"]))
            else:
                drawn.append(_text(left + 8, top, text, "p" if line == 0 else ""))
            left += size * scale
    return drawn, (len(cells) + 1) * _LINE


def _lines(table: _Table, x: float, y: float, width: float) -> tuple[list[str], float]:
    numbers = [name for name, value in table[0].items() if isinstance(value, float)]
    most = max(max(row[name] or 0.0 for name in numbers) for row in table) or 1.0
    base, step = y + _CHART_HEIGHT - 24, (width - 50) / max(1, len(table) - 1)
    drawn = [
        f'<path d="M{x + 40:.0f} {y:.0f}V{base:.0f}H{x + width:.0f}" fill="none" stroke="#d1d1d1"/>',
        _text(x, y + 10, f"{most:.3g}", "c"),
        _text(x, base, "0", "c"),
        _text(x + 40, base + 18, f"{table[0]['TimeGenerated']:%H:%M}", "c"),
        _text(x + width - 40, base + 18, f"{table[-1]['TimeGenerated']:%H:%M}", "c"),
    ]
    for place, (name, colour) in enumerate(zip(numbers, _SERIES, strict=False)):
        points = " ".join(
            f"{x + 40 + index * step:.1f},{base - (row[name] or 0.0) / most * (base - y - 6):.1f}"
            for index, row in enumerate(table)
        )
        drawn += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<rect x="{x + 110 + place * 130:.0f}" y="{base + 9:.0f}" width="10" height="10" fill="{colour}"/>',
            _text(x + 126 + place * 130, base + 18, name, "c"),
        ]
    return drawn, _CHART_HEIGHT


def _state(x: float, y: float, state: int) -> str:
    colour = _COLOURS[state]
    return f'<circle cx="{x + 5:.0f}" cy="{y - 4:.0f}" r="5" fill="{colour}"/>' + _text(
        x + 15, y, STATES[state][1], ""
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:%d %b %H:%M}" if isinstance(value, datetime) else str(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(text)}</text>'


def main() -> None:
    """Write the picture, and print that it was written if it differs."""
    drawn = draw()
    if not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != drawn:
        PICTURE.write_text(drawn, encoding="utf-8")
        sys.stdout.write(f"{PICTURE.relative_to(ROOT)}: written\n")


if __name__ == "__main__":
    main()
