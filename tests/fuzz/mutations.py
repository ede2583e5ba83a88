"""Nearly valid documents: seeds in which some bytes, or some parts of their JSON, are changed."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

ODD_JSON = (
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1.5",
    b"9" * 20,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"-Infinity",
    b'""',
    b'"\xff"',
    rb'"\ud800"',
    rb'"\u0000"',
    rb'"\u202e"',
    rb'"\u0661.\u0662"',
    b'"1.0"',
    b'"../../names/0"',
    b'"' + b"9" * 5000 + b'"',
    b'"' + b"x" * 100_000 + b'"',
    b"[]",
    b"{}",
    b"[" * 100 + b"]" * 100,
    b"[" * 100_000,
    b'{"a":' * 5000,
    b'{"a": 1, "a": 2}',
    b"[" + b",".join([b"{}"] * 20_000) + b"]",
    b"{" + b",".join(b'"%d": 0' % number for number in range(20_000)) + b"}",
)
_INTERESTING = (b"\x00", b"\x7f", b"\x80", b"\xff", b"\r\n", b"\xff\xfe", b"\x30\x80", b"\x02\x01\x07", b"x" * 70_000)
_PLACE = "\x00the place\x00"

_Edit = Callable[[bytes], bytes]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in a JSON value, with each of its keys or positions."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield value, key
        yield from _places(each)


def _replaced(content: bytes, where: int, odd: bytes) -> bytes:
    """JSON with another value at one of its places; other content unchanged."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not (places := list(_places(document))):
        return odd
    holder, key = places[where % len(places)]
    holder[key] = _PLACE
    return json.dumps(document).encode().replace(json.dumps(_PLACE).encode(), odd)


def _at(content: bytes, where: int) -> int:
    return where % (len(content) + 1)


def _cut(content: bytes, where: int, length: int) -> bytes:
    return content[: _at(content, where)] + content[_at(content, where) + length :]


def _doubled(content: bytes, where: int, length: int) -> bytes:
    at = _at(content, where)
    return content[: at + length] + content[at:]


def _overwritten(content: bytes, where: int, other: bytes) -> bytes:
    at = _at(content, where)
    return content[:at] + other + content[at + len(other) :]


def _inserted(content: bytes, where: int, other: bytes) -> bytes:
    at = _at(content, where)
    return content[:at] + other + content[at:]


def _edits(seeds: Sequence[bytes]) -> st.SearchStrategy[_Edit]:
    where = st.integers(0, 2**16)
    length = st.integers(1, 64)
    some = st.one_of(st.sampled_from(_INTERESTING), st.binary(min_size=1, max_size=8), st.sampled_from(ODD_JSON))

    def edit(change: Callable[..., bytes], *given: st.SearchStrategy[Any]) -> st.SearchStrategy[_Edit]:
        return st.tuples(*given).map(lambda drawn: lambda content: change(content, *drawn))

    changes = [
        edit(_cut, where, length),
        edit(_doubled, where, length),
        edit(_overwritten, where, some),
        edit(_inserted, where, some),
        edit(lambda content, at: content[: _at(content, at)], where),
        edit(lambda content, at, other: content[: _at(content, at)] + other[_at(other, at) :], where, _one_of(seeds)),
    ]
    if any(each[:1] in {b"{", b"["} for each in seeds):
        # Most byte changes only break the JSON; these keep it valid and reach the code behind the JSON parser.
        changes += [edit(_replaced, where, st.sampled_from(ODD_JSON))] * 6
    return st.one_of(changes)


def _one_of(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(list(seeds))


def mutated(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the seeds after one to four changes."""

    def changed(drawn: tuple[bytes, list[_Edit]]) -> bytes:
        content, edits = drawn
        for each in edits:
            content = each(content)
        return content

    return st.tuples(_one_of(seeds), st.lists(_edits(seeds), min_size=1, max_size=4)).map(changed)
