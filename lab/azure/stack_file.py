"""Reads a stack's file, `Pulumi.<stack>.yaml`, as Pulumi does.

PyYAML reads YAML 1.1, Pulumi (go-yaml v3) most of 1.2: `yes` is text there, `010` is 8, `1:30` is not a number, and a
duplicate key is an error. The results were compared with `pulumi config --json` of Pulumi 3.260.
"""

import math
import re
from collections.abc import Hashable
from datetime import date
from pathlib import Path
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_DIGITS = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TIME_OF_DAY = r"\d\d?:\d\d?:\d\d?(\.\d*)?"
_DATE = re.compile(rf"(\d{{4}})-(\d\d?)-(\d\d?)([Tt]{_TIME_OF_DAY}(Z|[-+]\d\d:\d\d)| {_TIME_OF_DAY})?")
_INTEGERS = range(-(2**63), 2**64)
_EXPONENT_FROM = 1e21
"""Go writes whole numbers from this value on with an exponent."""
_MAX_VALUES = 100_000
"""Limit of a file's values, aliases written out: a few lines could take all memory. Go has a limit too."""


class StackFileError(Exception):
    """A file is not a stack's configuration; the message has its name and the reason."""


def is_file(path: Path) -> bool:
    """Whether a file exists; False also for an impossible name."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder exists; False also for an impossible name."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_yaml(path: Path, wanted: str) -> Any:
    """The content of a YAML file, read as Pulumi reads it.

    Args:
        path: the file.
        wanted: what it should be, for the message.

    Raises:
        StackFileError: there is no such file, or Pulumi would not read it.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  (a safe one)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        said = error.problem or "it breaks off"
        form = "" if "wanted" in said else "; wanted YAML as Pulumi reads it, indented with spaces"
        raise StackFileError(f"{path}: line {line}: {said}{form}") from error
    except UnicodeDecodeError as error:
        raise StackFileError(f"{path}: byte {error.start} is not UTF-8; wanted the file saved as UTF-8") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # A ValueError is a number of thousands of digits.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StackFileError(f"{path}: can't be read: {reason}; wanted {wanted}") from error
    if _values(document, {}) > _MAX_VALUES:
        raise StackFileError(f"{path}: its aliases stand for too many values; wanted {_MAX_VALUES} at most")
    return document


def read_document(path: Path) -> dict[str, Any]:
    """The content of a stack's file.

    Raises:
        StackFileError: there is no such file, or Pulumi would not read it as a stack's.
    """
    document = read_yaml(path, "a stack's configuration")
    if not isinstance(document, dict):
        raise StackFileError(f"{path}: holds no `config`; wanted a stack's configuration")
    return document


def _values(value: Any, counted: dict[int, int]) -> int:
    """The number of values in a value, each as often as aliases repeat it."""
    if not isinstance(value, dict | list):
        return 1
    if (own := id(value)) not in counted:
        counted[own] = 1 + sum(
            _values(each, counted) for each in (value.values() if isinstance(value, dict) else value)
        )
    return counted[own]


class _Loader(yaml.SafeLoader):
    """A safe loader, without types that only PyYAML has: sets, ordered maps, binary data."""

    yaml_constructors = {  # noqa: RUF012  (PyYAML's name)
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in ("bool", "float", "int", "null", "seq", "str")
    }
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is in line {lines[key.value]} already; wanted each key once",
                    problem_mark=key.start_mark,
                )
            lines[key.value] = key.start_mark.line + 1
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float | str:
    """A scalar that begins like a number: a number, or text."""
    text = str(loader.construct_scalar(node))
    plain = text.replace("_", "")
    if _DIGITS.fullmatch(plain):
        octal = re.fullmatch("([-+]?)0([0-7]+)", plain)
        whole = int(f"{octal[1]}0o{octal[2]}" if octal else plain, 0)
        return whole if whole in _INTEGERS else _as_written(float(whole))
    if _DECIMAL.fullmatch(plain) and math.isfinite(number := float(plain)):
        return _as_written(number)
    if _NOT_FINITE.fullmatch(text):
        raise yaml.MarkedYAMLError(problem=f"{text}: wanted a number", problem_mark=node.start_mark)
    if (found := _DATE.fullmatch(text)) and _is_date(found):
        raise yaml.MarkedYAMLError(problem=f"{text}: wanted a date in quotes", problem_mark=node.start_mark)
    return text


def _as_written(number: float) -> int | float:
    """Pulumi hands values on as JSON, and Go writes whole numbers without a point."""
    return int(number) if number.is_integer() and abs(number) < _EXPONENT_FROM else number


def _is_date(found: re.Match[str]) -> bool:
    try:
        date(*map(int, found.groups()[:3]))
    except ValueError:
        return False
    return True


for _tag, _pattern, _first in (
    ("merge", "<<$", "<"),
    ("null", "(~|null|Null|NULL|)$", ["", "~", "n", "N"]),
    ("bool", "(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("float", ".", "+-.0123456789"),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor(f"{_TAG}map", _mapping)
_Loader.add_constructor(f"{_TAG}float", _number)
_Loader.add_constructor(f"{_TAG}int", _number)
