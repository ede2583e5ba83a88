"""A stack's file is read as Pulumi reads it; tests/engine compares the same table with the CLI."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lab import ROOT
from lab.azure.plan import __main__ as command
from lab.azure.program import PROJECT, read_configuration
from lab.azure.stack_file import StackFileError
from lab.azure.stacks import stack_path
from stack.settings import EXPRESS_ROUTE_KEY, parse_settings
from tests.runs import CIRCUIT

SCALARS: dict[str, Any] = {
    # Booleans and null, as in YAML 1.2.
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{each: each for each in ("yes", "no", "on", "Off", "y", "N", "tRUE")},
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    # Numbers, and text that looks like one.
    "010": 8,
    "0o17": 15,
    "-0o7": -7,
    "0b11": 3,
    "0X1f": 31,
    "+0x1f": 31,
    "08": 8,
    "09.5": 9.5,
    "1_000": 1000,
    "1_000.5": 1000.5,
    "+_1": 1,
    "_1": "_1",
    "1e3": 1000,
    "12E+1": 120,
    "5.": 5,
    ".5": 0.5,
    "1.50": 1.5,
    "-0": 0,
    "0b12": "0b12",
    "0x1G": "0x1G",
    "1:30": "1:30",
    "1e+": "1e+",
    "1e400": "1e400",
    "9007199254740993": 9007199254740993,
    "100000000000000000000": 100000000000000000000,
    # Text.
    "10.1.0.0/16": "10.1.0.0/16",
    "4.10.1": "4.10.1",
    "=": "=",
    "'010'": "010",
    '"no"': "no",
    '"1e3"': "1e3",
    "!!str 010": "010",
    "2026-13-01": "2026-13-01",
    "2026-01-01T00:00:00": "2026-01-01T00:00:00",
}
AS_VALUES = {True: "true", False: "false", None: ""}


def written(folder: Path, text: str) -> Path:
    path = folder / "Pulumi.bank.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def table(folder: Path) -> Path:
    """A stack's file with each scalar twice: as a value, and inside an object."""
    alone = (f"  {PROJECT}:v{place}: {text}" for place, text in enumerate(SCALARS))
    inside = (f"    v{place}: {text}" for place, text in enumerate(SCALARS))
    merged = f"  {PROJECT}:merged: {{<<: {{a: 1, b: 1}}, b: 2, 3: c}}"
    return written(folder, "\n".join(["config:", merged, *alone, f"  {PROJECT}:object:", *inside, ""]))


def test_a_scalar_has_the_type_that_pulumi_gives_it(tmp_path: Path):
    values = read_configuration(table(tmp_path)).values
    read = json.loads(values[f"{PROJECT}:object"])
    wrong = {
        text: read[f"v{place}"]
        for place, (text, value) in enumerate(SCALARS.items())
        if (type(read[f"v{place}"]), read[f"v{place}"]) != (type(value), value)
    }
    assert wrong == {}, "a plan that reads `no` as false would differ from the deployment"
    for place, (text, value) in enumerate(SCALARS.items()):
        alone = AS_VALUES[value] if value is None or isinstance(value, bool) else str(value)
        assert values[f"{PROJECT}:v{place}"] == alone, f"{text}: a plain value is text"
    assert json.loads(values[f"{PROJECT}:merged"]) == {"a": 1, "b": 2, "3": "c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p:a: 1\n  p:a: 2", "line 3: the key 'p:a' is in line 2 already; wanted each key once"),
        ("p:a: {x: 1, x: 2}", "the key 'x' is in line 2 already"),
        ("p:a: {x: [{1: 1, '1': 2}]}", "the key '1' is in line 2 already"),
        ("p:a: 1\nconfig:\n  p:b: 1", "line 3: the key 'config' is in line 1 already"),
        (f"{PROJECT}:size: small\n  size: large", f"is also given as {PROJECT}:size"),
        ("p:a: {since: 2026-01-01}", "line 2: 2026-01-01: wanted a date in quotes"),
        ("p:a: 2026-1-1 1:2:3", "wanted a date in quotes"),
        ("p:a: .inf", "line 2: .inf: wanted a number"),
        ("p:a: [-.INF, .nan]", "wanted a number"),
        ("p:a: &x [*x]", "line 2: found unconstructable recursive node"),
        ("p:a: {[1]: 2}", "line 2: found unhashable key"),
        ("p:a: !!set {b}", "line 2: could not determine a constructor"),
        ("p:q:r: 1", "p:q:r: wanted a key of the form <namespace>:<name>"),
        ("1: 1", "1: wanted a key of the form <namespace>:<name>"),
        ("p:a: [1", "line 3: expected ',' or ']'"),
        ("\tp:a: 1", "line 2: found character '\\t' that cannot start any token; wanted YAML as Pulumi reads it"),
    ],
)
def test_files_that_pulumi_refuses_are_refused_with_the_position(tmp_path: Path, text: str, said: str):
    path = written(tmp_path, f"config:\n  {text}\n")
    with pytest.raises(StackFileError) as refused:
        read_configuration(path)
    assert said in str(refused.value), "the file would fail later, in Pulumi, or mean something else there"
    assert str(refused.value).startswith(f"{path}: "), "it says which file"
    assert "\n" not in str(refused.value), "in one line"


BOMB = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghijk"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("config:\n".encode("utf-16"), "byte 0 is not UTF-8; wanted the file saved as UTF-8"),
        ("config: {p:a: Zürich}".encode("latin-1"), "is not UTF-8; wanted the file saved as UTF-8"),
        (b"config: \0", "can't be read: .*; wanted a stack's configuration"),
        (
            f"a: &a [x]\n{BOMB}config: {{p:a: *k}}\n".encode(),
            "its aliases stand for too many values; wanted 100000 at",
        ),
    ],
)
def test_invalid_text_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "Pulumi.bank.yaml"
    path.write_bytes(content)
    with pytest.raises(StackFileError, match=said) as refused:
        read_configuration(path)
    assert "\n" not in str(refused.value)
    assert "codec" not in str(refused.value), "without a library's wording"


def test_a_key_without_a_namespace_belongs_to_this_project(tmp_path: Path):
    stack = read_configuration(
        written(tmp_path, f"config:\n  size: small\n  {PROJECT}:config:deletionProtection: no\n")
    )
    assert stack.values == {f"{PROJECT}:size": "small", f"{PROJECT}:deletionProtection": "no"}, "as Pulumi reads it"


def test_a_secret_inside_an_object_makes_all_of_it_secret(tmp_path: Path):
    text = "config:\n  p:a: {b: [{c: {secure: v1:x}}], d: 1}\n  p:e: {secure: 5}\n  p:f: {secure: v1:y}\n"
    stack = read_configuration(written(tmp_path, text))
    assert set(stack.secret_keys) == {"p:a", "p:f"}, "a plan may not print what Pulumi encrypts"
    assert "v1:" not in str(stack.values), "the program gets a placeholder, not the ciphertext"
    assert json.loads(stack.values["p:a"])["d"] == 1
    assert json.loads(stack.values["p:e"]) == {"secure": 5}, "the placeholder is no ciphertext"


def test_the_placeholder_of_an_encrypted_key_is_a_valid_key(tmp_path: Path):
    circuit = f"  {PROJECT}:connectivity: {{vpn: {{}}, expressRoute: {{circuitId: {CIRCUIT}}}}}\n"
    circuit += f"  {PROJECT}:{EXPRESS_ROUTE_KEY}: {{secure: v1:x}}\n"
    stack = read_configuration(written(tmp_path, (ROOT / "Pulumi.dev.yaml").read_text(encoding="utf-8") + circuit))
    settings = parse_settings(PROJECT, stack.values, frozenset(stack.secret_keys))
    assert settings.express_route_authorization_key, "a preview without the passphrase plans the circuit too"


@pytest.mark.parametrize("stack", ["missing", "*", "", "x" * 5000, "a\0b", "[red]x"])
def test_a_missing_stack_is_named(stack: str, capsys: pytest.CaptureFixture[str]):
    assert command.main(["--without-engine", stack]) == 1, "* is no stack, and a name that is too long does not exist"
    assert (
        capsys.readouterr().err == f"error: no configuration of stack {stack:.200}; wanted Pulumi.{stack:.200}.yaml\n"
    )


@pytest.mark.parametrize("path", ["nowhere/Pulumi.a.yaml", "/tmp/Pulumi.a.yml", f"{'x' * 5000}.yaml", "../x"])  # noqa: S108
def test_a_missing_path_is_not_taken_for_a_stacks_name(path: str, capsys: pytest.CaptureFixture[str]):
    assert command.main(["--without-engine", path]) == 1
    said = capsys.readouterr().err
    assert said.endswith(": no such file; wanted a stack's, such as Pulumi.dev.yaml\n"), (
        "not Pulumi./tmp/Pulumi.a.yml.yaml"
    )


def test_an_existing_file_that_is_no_stacks_file_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "three-banks").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    for given, said in (
        ("three-banks", "three-banks: a folder; wanted a stack's file, such as three-banks/Pulumi.dev.yaml"),
        (str(tmp_path), f"{tmp_path}: a folder; wanted a stack's file, such as {tmp_path}/Pulumi.dev.yaml"),
        ("README.md", "README.md: not a stack's file; wanted one such as Pulumi.dev.yaml"),
    ):
        assert command.main(["--without-engine", given]) == 1
        assert capsys.readouterr().err == f"error: {said}\n", "and not Pulumi.README.md.yaml"
    assert stack_path("dev").name == "Pulumi.dev.yaml", "a stack is found although a folder has its name"


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]):
    for arguments, said in (
        (["--format", "xml"], r"format xml; wanted text, markdown or json"),
        (
            ["--region", "eastus"],
            r"unrecognized arguments: --region eastus; wanted python -m lab\.azure\.plan \[-h\] .*",
        ),
    ):
        assert command.main(["dev", *arguments]) == 1
        assert re.fullmatch(f"error: {said}\n", capsys.readouterr().err), "and not a page of usage"


def test_a_key_in_a_message_is_printed_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, "config: {azure-native:location: swedencentral}")
    assert command.main(["--without-engine", str(path)]) == 1
    assert f"\n{PROJECT}:bank: not set; wanted" in capsys.readouterr().err, (
        "a terminal library would draw an emoji for :bank:"
    )


@pytest.mark.parametrize("stack", ["bank-b", "a/b/c/d", 5, ["a"]])
def test_a_missing_stack_of_a_peer_is_refused_by_its_key(
    stack: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    peers = json.dumps([{"name": "bank-b", "stack": stack}])
    assert command.main(["--without-engine", str(written(tmp_path, f"config: {{peers: {peers}}}"))]) == 1
    assert f"\n{PROJECT}:peers[0].stack: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["banks: [a]", "a: 1", "banks: {a: [b]}", "banks: ["])
def test_an_invalid_consortium_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "consortium.yaml").write_text(text, encoding="utf-8")
    assert command.main(["--without-engine", str(written(tmp_path, "config: {size: small}"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/consortium.yaml: "), (
        "the message names the consortium's file, not the stack's"
    )
    assert "; wanted " in said
