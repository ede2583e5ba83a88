"""Python sources without what only people read: a VM's custom data and user data are small.

Each line keeps its number, so that a traceback from a VM points into the repository.
"""

import ast
import io
import tokenize
from collections.abc import Iterator

_Place = tuple[int, int]


def bare(source: str) -> str:
    """The source without comments and docstrings; it means the same to Python, but for `__doc__`."""
    lines = [line.encode() for line in source.splitlines()]
    for (first, start), (last, end), instead in sorted(_cuts(source, lines), reverse=True):
        head, tail = lines[first - 1][:start], lines[last - 1][end:]
        lines[first - 1 : last] = [head + instead + (tail if first == last else b""), *[b""] * (last - first)]
        if first != last and tail.strip():
            raise ValueError(f"line {last}: something stands behind a docstring; wanted a line of its own")
    return "".join(f"{line.decode().rstrip()}\n" for line in lines)


def _cuts(source: str, lines: list[bytes]) -> Iterator[tuple[_Place, _Place, bytes]]:
    """From where to where, lines counted from 1 and columns in bytes, and what stands there instead."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        strings = [each for each in body if _is_string(each)]
        for each in strings:
            # A body can't be empty.
            needed = len(strings) == len(body) and each is body[0] and not isinstance(node, ast.Module)
            yield (
                (each.lineno, each.col_offset),
                (each.end_lineno or each.lineno, each.end_col_offset or 0),
                b"pass" if needed else b"",
            )
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = lines[token.start[0] - 1].decode()
            yield (
                (token.start[0], len(line[: token.start[1]].encode())),
                (token.end[0], len(line[: token.end[1]].encode())),
                b"",
            )


def _is_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
