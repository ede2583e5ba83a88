"""Canonical JSON: what signatures cover."""

import json
from collections.abc import Mapping


def canonical_json(value: object) -> bytes:
    """Sorted keys, no white space, UTF-8: RFC 8785 for strings, whole numbers, lists and objects.

    Raises:
        ValueError: `value` is not JSON, or is nested too deeply.
    """
    try:
        return json.dumps(
            _whole_numbers(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (RecursionError, TypeError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _whole_numbers(value: object) -> object:
    # Pulumi's wire format knows one kind of number: 64512 comes back as 64512.0.
    if isinstance(value, Mapping):
        return {key: _whole_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
