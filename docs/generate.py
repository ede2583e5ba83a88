"""Writes what follows from the code: the READMEs' tables, Pulumi.yaml's `config:`, schema, checklist, sample card.

`python -m docs.generate` writes the files that are stale, and names them. `generate(check=True)` only names them.
"""

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import membership
from consortium import CARD_OUTPUT
from offline import rules
from offline.program import PEERS_KEY, ROOT, Run
from offline.stacks import EXAMPLES, plan_stack
from settings import LOCATION_KEY, SIZES, HighAvailability, Nodes, Settings, section_of

README = ROOT / "README.md"
OFFLINE_README = ROOT / "offline" / "README.md"
PROJECT_FILE = ROOT / "Pulumi.yaml"
SCHEMA = ROOT / "schemas" / "membership-card.schema.json"
CHECKLIST = ROOT / "docs" / "checklist.md"
SAMPLE_STACK = EXAMPLES / "three-banks" / "Pulumi.bank-c.yaml"
SAMPLE_CARD = EXAMPLES / "three-banks" / "bank-c.json"
SAMPLE_PIN = ROOT / "Pulumi.prod.yaml"
"""Stack file that reads the sample card and so pins its fingerprint; written by hand."""

OUTPUTS: Mapping[str, str] = {
    CARD_OUTPUT: (
        "the membership card: public, signed, all that a peer needs "
        "([schema](schemas/membership-card.schema.json)); peers read it by stack reference or as a JSON file"
    ),
    "fingerprint": "`sha256:` of the key that signs the card; tell it to peers by another way than the card",
    "resourceGroup": "resource group that holds everything",
    "rpcAddress": (
        "where the bank's applications reach its nodes by RPC: the load balancer's address, and the port "
        "that spreads over all of them"
    ),
}
"""What each stack output means, in the order of the table."""

_CHECKLIST_MODULE = "tests.checklist"
_RULES_MODULE = "tests.test_rules"
_LEARN = "https://learn.microsoft.com/azure"
# A source in front of what it says: `VF: ...`, `UP, RE: ...`, `BI #5223: ...`.
_SOURCES = re.compile(r"\b([A-Z]{2}(?: #\d+)?(?:, [A-Z]{2}(?: #\d+)?)*): ")
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)
_CONFIG = re.compile(r"^config:.*?(?=^[^\s#]|\Z)", re.DOTALL | re.MULTILINE)


class StaleError(Exception):
    """A document can't be brought up to date by writing: the message says what a person must do."""


@dataclass(frozen=True)
class Key:
    """One configuration key, as deep as it lies."""

    path: str
    """`bank.name`; `peers[].name` for one that each entry of a list has."""
    field: FieldInfo
    optional_section: str | None
    """The innermost section around it that may be left out; None where it lies in none."""


def all_keys(
    model: type[BaseModel] = Settings, prefix: str = "", optional_section: str | None = None
) -> Iterator[Key]:
    """Every key of a section and of the sections in it; required ones first, each followed by its own."""
    fields = sorted(model.model_fields.values(), key=lambda field: not field.is_required())
    for field in fields:
        path = f"{prefix}{field.alias}"
        yield Key(path, field, optional_section)
        below = f"{path}[]" if get_origin(field.annotation) is tuple else path
        for section in section_of(field):
            yield from all_keys(section, f"{below}.", optional_section if field.is_required() else below)


def configuration_table() -> str:
    """The configuration keys, their meaning and default."""
    rows = [(f"`{key.path}`", _meaning(key.field), _default(key)) for key in all_keys()]
    return _table(("Key", "Meaning", "Default"), rows)


def outputs_table() -> str:
    """The stack's outputs and their meaning."""
    return _table(("Output", "Meaning"), [(f"`{name}`", meaning) for name, meaning in OUTPUTS.items()])


def sizes_table() -> str:
    """What each size stands for."""
    standby = Nodes.model_fields["standby"].default
    rows = [
        (
            f"`{size}`",
            str(profile.count),
            str(profile.count - standby),
            profile.vm_size,
            "on" if profile.monitoring else "off",
            "yes" if profile.database_high_availability is HighAvailability.ZONE_REDUNDANT else "no",
            "yes" if profile.needs_zones else "no",
        )
        for size, profile in SIZES.items()
    ]
    headings = (
        "Size",
        "VMs",
        "Ledger nodes",
        "VM size",
        "Monitoring",
        "Database standby in another zone",
        "Needs a region with zones",
    )
    return _table(headings, rows)


def rules_table(cases: Sequence[Any]) -> str:
    """What the offline Azure refuses, by type; from the rules' docstrings.

    Args:
        cases: the cases of the rules' test, each with the rule that it breaks.
    """
    rows = [
        (
            ", ".join(each.split(":")[1] for each in types) or "all",
            _without_sources(str(rule.__doc__)),
            ", ".join(_source(each) for match in _SOURCES.findall(str(rule.__doc__)) for each in match.split(", ")),
            "; ".join(case.what for case in cases if case.rule is rule),
        )
        for rule, types in rules.types_by_rule().items()
    ]
    return _table(("Of", "Rule", "Source", "Refused in the test"), rows)


def _without_sources(docstring: str) -> str:
    sentences = _SOURCES.sub("", docstring).rstrip(".").split(". ")
    return ". ".join(each[0].upper() + each[1:] for each in sentences)


def _source(code: str) -> str:
    """A link to what a code stands for in the docstring of the rules."""
    listed = str(rules.__doc__)
    short, _, number = code.partition(" #")
    if number:
        if not (repository := re.search(rf"\b{short} ([\w-]+/[\w-]+)", listed)):
            raise StaleError(f"{code} is the source of a rule, and no repository is listed for it")
        return f"[{code}](https://github.com/{repository[1]}/issues/{number})"
    if not (page := re.search(rf"^    {short} ([\w/-]+)", listed, re.MULTILINE)):
        raise StaleError(f"{code} is the source of a rule, and no page is listed for it")
    return f"[{code}]({_LEARN}/{page[1]})"


def project_config() -> str:
    """The `config:` section of Pulumi.yaml.

    Pulumi demands every declared key that has no default, typed or not. So what is required stands there
    without one, what is optional with its default, and what is optional without a default is left out.
    """
    declared: dict[str, dict[str, Any]] = {}
    left_out: list[str] = []
    for field in Settings.model_fields.values():
        if field.alias == LOCATION_KEY:
            continue
        key = str(field.alias)
        if not field.is_required() and field.default is None:
            left_out.append(key)
            continue
        declared[key] = {**_pulumi_type(field.annotation), "description": field.description}
        if not field.is_required():
            declared[key]["default"] = _plain(field.default)
    body = yaml.safe_dump(declared, sort_keys=False, width=100, allow_unicode=True)
    comments = [
        "# Written by `make docs` from settings.py, which also checks what lies inside the objects.",
        f"# Required besides these: {LOCATION_KEY}.",
        f"# Not declared, since Pulumi would demand what has no default: {', '.join(left_out)}.",
    ]
    lines = [*comments, *body.splitlines()]
    return "config:\n" + "".join(f"  {line}\n" for line in lines)


def documents(sample: Run) -> dict[Path, str]:
    """Every document that follows from the code, by its path, as it should be.

    Args:
        sample: a run of the program for `SAMPLE_STACK`, without peers.

    Raises:
        StaleError: README.md or Pulumi.yaml has no place for what is generated.
    """
    wanted = {
        README: _readme(README.read_text(encoding="utf-8")),
        PROJECT_FILE: _project(PROJECT_FILE.read_text(encoding="utf-8")),
        SCHEMA: json.dumps(membership.card_schema(), indent=2) + "\n",
        SAMPLE_CARD: json.dumps(sample.outputs[CARD_OUTPUT], indent=2, sort_keys=True) + "\n",
    }
    if importlib.util.find_spec(_CHECKLIST_MODULE):
        wanted[CHECKLIST] = importlib.import_module(_CHECKLIST_MODULE).render()
    if importlib.util.find_spec(_RULES_MODULE):
        cases = importlib.import_module(_RULES_MODULE).CASES
        wanted[OFFLINE_README] = _offline_readme(OFFLINE_README.read_text(encoding="utf-8"), cases)
    return wanted


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """The documents that are not as they should be."""
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def wrong_pin(card: Mapping[str, Any], stack_file: Path = SAMPLE_PIN) -> str | None:
    """What is wrong with the fingerprint that a stack file pins for the sample card; None if nothing is."""
    actual = membership.fingerprint(str(card["signingKey"]))
    configuration = yaml.safe_load(stack_file.read_text(encoding="utf-8"))["config"]
    pinned = [peer.get("fingerprint") for peer in configuration[PEERS_KEY] if peer["name"] == card["name"]]
    if pinned == [actual]:
        return None
    return f"{stack_file.name}: the peer {card['name']} has fingerprint {pinned}; wanted {actual}"


def plan_sample() -> Run:
    """The run that the sample card and the outputs come from."""
    return plan_stack(SAMPLE_STACK, with_peers=False)


def generate(*, check: bool = False) -> list[str]:
    """Bring every document up to date.

    Args:
        check: write nothing.

    Returns:
        One line for each document that was stale, or that a person must change.
    """
    sample = plan_sample()
    wanted = documents(sample)
    paths = stale(wanted)
    if not check:
        for path in paths:
            path.write_text(wanted[path], encoding="utf-8")
    said = "is stale: make docs" if check else "written"
    lines = [f"{path.relative_to(ROOT)}: {said}" for path in paths]
    pin = wrong_pin(sample.outputs[CARD_OUTPUT])
    return [*lines, pin] if pin else lines


def _readme(text: str) -> str:
    tables = {"configuration": configuration_table(), "outputs": outputs_table(), "sizes": sizes_table()}
    return _with_tables(text, README, tables)


def _offline_readme(text: str, cases: Sequence[Any]) -> str:
    return _with_tables(text, OFFLINE_README, {"rules": rules_table(cases)})


def _with_tables(text: str, path: Path, tables: Mapping[str, str]) -> str:
    found = {match[2] for match in _BLOCK.finditer(text)}
    if found != set(tables):
        raise StaleError(f"{path.relative_to(ROOT)} has blocks for {sorted(found)}; wanted {sorted(tables)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match[2]]}{match[3]}", text)


def _project(text: str) -> str:
    if not _CONFIG.search(text):
        raise StaleError(f"{PROJECT_FILE.name} has no section `config:`; wanted one to fill")
    return _CONFIG.sub(lambda _: project_config(), text)


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _meaning(field: FieldInfo) -> str:
    return field.description or _values(field)


def _values(field: FieldInfo) -> str:
    """What a field without a description takes, from its type."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    least = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    most = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    if least is None:
        raise StaleError(f"{field.alias} has neither a description nor values that speak for themselves; wanted one")
    return f"{least} or more" if most is None else f"{least} to {most}"


def _default(key: Key) -> str:
    field = key.field
    if field.is_required():
        return f"required in `{key.optional_section}`" if key.optional_section else "**required**"
    if field.default is None:
        return "none"
    value = _plain(field.default)
    if isinstance(field.default, BaseModel) and not value:
        return "as below"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _plain(default: Any) -> Any:
    """A default as YAML and JSON write it; of a section only what differs from its own defaults."""
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(default, tuple):
        return [_plain(each) for each in default]
    return default.value if isinstance(default, Enum) else default


def _pulumi_type(annotation: Any) -> dict[str, Any]:
    """Pulumi's word for a type: string, integer, boolean, array or object."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return {"type": "array", "items": _pulumi_type(arguments[0])}
    if origin in (Union, UnionType) or hasattr(annotation, "__metadata__"):
        return _pulumi_type(arguments[0])
    if origin is dict or issubclass(annotation, BaseModel):
        return {"type": "object"}
    if issubclass(annotation, bool):
        return {"type": "boolean"}
    if issubclass(annotation, int):
        return {"type": "integer"}
    if issubclass(annotation, str | UUID | IPv4Network | SecretStr):
        return {"type": "string"}
    raise TypeError(f"Pulumi has no configuration type for {annotation}")


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in generate() or ["all up to date"])
