"""Hostile messages to a node: AMQP, the format of Corda's messages, with sizes larger than the bytes that follow."""

import struct

MAGIC = b"corda\x01\x00\x00"
"""The header of each of Corda's serialized objects."""
_BINARY, _LIST, _ARRAY, _DESCRIBED, _EMPTY_LIST, _NULL = (
    b"\xb0",
    b"\xd0",
    b"\xf0",
    b"\x00\x80" + bytes(8),
    b"\x45",
    b"\x40",
)


def _sized(code: bytes, content: bytes) -> bytes:
    return code + struct.pack(">I", len(content)) + content


def binary(claimed: int) -> bytes:
    """An AMQP binary that claims to have this many bytes, none of which follow."""
    return _BINARY + struct.pack(">I", claimed)


def listed(*items: bytes, count: int | None = None) -> bytes:
    """An AMQP list of items that claims to have `count` of them; by default their true number."""
    return _sized(_LIST, struct.pack(">I", len(items) if count is None else count) + b"".join(items))


def described(content: bytes) -> bytes:
    """An AMQP described value: the decoder does not check sizes inside it before it allocates."""
    return _DESCRIBED + content


def nulls(claimed: int) -> bytes:
    """An AMQP array that claims to have this many nulls, which take no bytes."""
    return _sized(_ARRAY, struct.pack(">I", claimed) + _NULL)


def nested(deep: int) -> bytes:
    """AMQP lists in lists, `deep` levels."""
    content = bytearray()
    for left in range(deep - 1, -1, -1):
        # The size of the count and of the levels below: nine bytes a level, one for the innermost empty list.
        content += _LIST + struct.pack(">II", 4 + 9 * left + 1, 1)
    return bytes(content) + _EMPTY_LIST


EVERY = {
    "binary": MAGIC + binary(0x7FFFFFFF),
    "described binary": MAGIC + listed(described(binary(0x7FFFFFFF))),
    "array of nulls": MAGIC + nulls(0x7FFFFFFF),
    "deep lists": MAGIC + nested(200_000),
}
"""One serialized object of each kind, by a description: sent as a whole message, or inside one."""
