"""A picture as Mermaid, which GitHub draws by itself."""

from collections.abc import Iterator

from docs.diagrams.picture import Arrow, Box, Group, Kind, Line, Picture

_SHAPES = {Kind.DATABASE: ("[(", ")]"), Kind.INTERNET: ("((", "))"), Kind.AZURE: ("((", "))")}
_BOX = ("[", "]")
_SPECIAL = '"<>#&;`'
_HEADS = {Line.FLOW: "-->", Line.LINK: "==>", Line.SERVES: "-.->"}


def mermaid(picture: Picture) -> str:
    """The picture as the text of a flowchart."""
    lines = ["---", f"title: {picture.title}", "---", f"flowchart {picture.direction}", *_parts(picture.parts, "  ")]
    return "".join(f"{line}\n" for line in [*lines, *map(_arrow, picture.arrows)])


def _parts(parts: tuple[Box | Group, ...], indent: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Group):
            yield f'{indent}subgraph {part.key}["{_lines(part.title, *part.details)}"]'
            yield from _parts(part.parts, f"{indent}  ")
            yield f"{indent}end"
        else:
            begin, end = _SHAPES.get(part.kind, _BOX)
            yield f'{indent}{part.key}{begin}"{_lines(part.title, *part.details)}"{end}'


def _arrow(arrow: Arrow) -> str:
    head = f"{'<' * arrow.both_ways}{_HEADS[arrow.line]}"
    label = f'|"{_lines(*arrow.label)}"|' if arrow.label else ""
    return f"  {arrow.source} {head}{label} {arrow.target}"


def _lines(*lines: str) -> str:
    """Text inside of quotes, where Mermaid reads HTML's entities with a `#` in place of `&`."""
    return "<br/>".join("".join(f"#{ord(each)};" if each in _SPECIAL else each for each in line) for line in lines)
