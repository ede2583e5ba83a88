"""The documents say what the code does: generated parts are current, and what prose names is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from docs.generate import OUTPUTS, PROJECT_FILE, README, Key
from offline.program import PROJECT, ROOT, Run, read_configuration
from offline.rules import types_by_rule
from offline.stacks import stack_file
from settings import LOCATION_KEY, Settings, parse_settings
from tests.configuration import configuration
from tests.runs import bank
from tests.test_rules import CASES

DOCUMENTS = [README, generate.OFFLINE_README, *sorted((ROOT / "docs").rglob("*.md"))]
# The checklist quotes other people's rules, and so Azure's words.
PROSE = [document for document in DOCUMENTS if document != generate.CHECKLIST]
GENERATED = [
    generate.README,
    generate.OFFLINE_README,
    generate.PROJECT_FILE,
    generate.SCHEMA,
    generate.SAMPLE_CARD,
    generate.CHECKLIST,
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CAMEL_CASE = re.compile(r"[a-z]+([A-Z][a-z0-9]*)+")


@pytest.fixture(scope="module")
def sample() -> Run:
    """The run that `generate.plan_sample` makes, which other tests want too."""
    assert stack_file("bank-c") == generate.SAMPLE_STACK, "the sample card is bank C's"
    return bank("bank-c", linked=False)


@pytest.fixture(scope="module")
def wanted(sample: Run) -> dict[Path, str]:
    return generate.documents(sample)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def paths_of_keys() -> set[str]:
    """Every configuration key with its parents, lists without their brackets."""
    return {key.path.replace("[]", "") for key in generate.all_keys()}


def code_of(document: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """The fenced blocks (language, text) and the code spans outside of them."""
    text = document.read_text(encoding="utf-8")
    return _FENCE.findall(text), _SPAN.findall(_FENCE.sub("", text))


def all_code(document: Path) -> list[str]:
    blocks, spans = code_of(document)
    return [*(line for language, text in blocks if language != "mermaid" for line in text.splitlines()), *spans]


# What is generated


@pytest.mark.parametrize("path", GENERATED, ids=relative)
def test_generated_documents_are_current(path: Path, wanted: dict[Path, str]) -> None:
    assert path in wanted, "nothing generates it any more; then nothing should list it"
    assert path.read_text(encoding="utf-8") == wanted[path], (
        f"{relative(path)} does not say what the code does; `make docs` writes it"
    )


def test_the_schema_is_the_one_that_cards_are_read_by(wanted: dict[Path, str], sample: Run) -> None:
    schema = json.loads(wanted[generate.SCHEMA])
    card = sample.outputs["member"]
    assert set(card) == set(schema["properties"]), "a peer validates what a member publishes by the published schema"


def test_the_outputs_table_has_what_a_run_exports(sample: Run) -> None:
    assert set(OUTPUTS) == set(sample.outputs), "each output of the stack is explained, and nothing else"


def test_no_output_of_the_table_is_secret(sample: Run) -> None:
    assert not sample.secret_outputs, "README says that whoever may read outputs may read all of them"


def test_the_production_sample_pins_the_sample_card(sample: Run) -> None:
    assert generate.wrong_pin(sample.outputs["member"]) is None, (
        "Pulumi.prod.yaml must pin the key that signed examples/three-banks/bank-c.json, or it can't be planned"
    )


def test_another_signing_key_is_noticed(sample: Run) -> None:
    other = {**sample.outputs["member"], "signingKey": sample.outputs["member"]["linkPublicKey"]}
    assert generate.wrong_pin(other), "a changed key must be told, since a person has to pin it"


def test_what_is_stale_is_named(tmp_path: Path) -> None:
    current, old, missing = tmp_path / "current", tmp_path / "old", tmp_path / "missing"
    current.write_text("now", encoding="utf-8")
    old.write_text("then", encoding="utf-8")
    stale = generate.stale({current: "now", old: "now", missing: "now"})
    assert stale == [old, missing], "only what differs is written"


def test_each_rule_of_the_offline_azure_has_a_row_with_its_source_and_a_test() -> None:
    rows = generate.rules_table(CASES).splitlines()[2:]
    assert len(rows) == len(types_by_rule()), "one row a rule, and no other"
    for row in rows:
        _, rule, source, refused = (cell.strip() for cell in row.strip("|").split(" | "))
        assert "https://" in source, f"{rule!r} needs a source, or nobody can check that Azure says so"
        assert refused, f"{rule!r} needs a case that breaks it"


def test_a_source_that_is_not_listed_is_refused() -> None:
    for code in ("QQ", "QQ #1"):
        with pytest.raises(generate.StaleError, match=code):
            generate._source(code)


def test_generating_twice_changes_nothing(wanted: dict[Path, str]) -> None:
    assert generate._readme(wanted[README]) == wanted[README], "README's tables stay where they are"
    assert generate._project(wanted[PROJECT_FILE]) == wanted[PROJECT_FILE], "`config:` is replaced, not added to"


def test_a_lost_marker_is_refused() -> None:
    text = README.read_text(encoding="utf-8").replace("<!-- generated: sizes -->", "")
    with pytest.raises(generate.StaleError, match="sizes"):
        generate._readme(text)


def test_a_lost_config_section_is_refused() -> None:
    with pytest.raises(generate.StaleError, match="config:"):
        generate._project("name: decentralized-trust\n")


def test_what_follows_the_config_section_stays() -> None:
    text = generate._project("name: x\nconfig:\n  old: {}\nplugins:\n  providers: []\n")
    assert text.startswith("name: x\nconfig:\n"), "what stands before it stays"
    assert text.endswith("\nplugins:\n  providers: []\n"), "what stands after it stays"
    assert "old" not in text, "and what it held is gone"


def test_required_keys_come_first() -> None:
    top: list[Key] = [key for key in generate.all_keys() if "." not in key.path or key.path == LOCATION_KEY]
    required = [key.field.is_required() for key in top]
    assert required == sorted(required, reverse=True), "whoever writes a first configuration reads from the top"
    assert len(top) == len(Settings.model_fields), "no key of the program is left out"


# Pulumi.yaml


@pytest.fixture(scope="module")
def declared() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(PROJECT_FILE.read_text(encoding="utf-8"))["config"]


def test_pulumi_demands_what_the_program_demands(declared: dict[str, dict[str, Any]]) -> None:
    demanded = {key for key, declaration in declared.items() if "default" not in declaration}
    required = {field.alias for field in Settings.model_fields.values() if field.is_required()}
    assert demanded == required - {LOCATION_KEY}, "Pulumi demands each declared key that has no default, typed or not"


def test_each_declared_key_is_one_of_the_program(declared: dict[str, dict[str, Any]]) -> None:
    for key, declaration in declared.items():
        field = next((each for each in Settings.model_fields.values() if each.alias == key), None)
        assert field is not None, f"the program refuses the key {key}"
        assert declaration["description"] == field.description, "one description, wherever it is read"
        assert declaration["type"] in ("string", "integer", "boolean", "array", "object"), "Pulumi knows no others"


def test_declared_defaults_are_those_of_the_program(declared: dict[str, dict[str, Any]]) -> None:
    defaults = {
        f"{PROJECT}:{key}": json.dumps(declaration["default"])
        for key, declaration in declared.items()
        if "default" in declaration
    }
    values = configuration()
    assert parse_settings(PROJECT, {**defaults, **values}) == parse_settings(PROJECT, values), (
        "Pulumi hands the declared defaults to the program, which must come to the same settings without them"
    )


# What prose names


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{relative(document)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(file), f"{relative(document)} links to {target}, which has no such heading"


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for code in all_code(document) for name in re.findall(r"\bmake ([a-z-]+)", code)}
    assert named <= targets, f"{relative(document)} names {sorted(named - targets)}, which the Makefile does not have"


@pytest.mark.parametrize("document", PROSE, ids=relative)
def test_keys_in_prose_exist(document: Path) -> None:
    known = paths_of_keys()
    tops = {path.split(".")[0] for path in known}
    words = {word for path in known for word in path.split(".")} | set(OUTPUTS) | properties_of_the_card()
    for span in code_of(document)[1]:
        path = span.replace("[]", "")
        if re.fullmatch(r"\w+(\.\w+)+", path) and path.split(".")[0] in tops:
            assert path in known, f"{relative(document)} names the key {span}, which the program refuses"
        elif _CAMEL_CASE.fullmatch(span):
            assert span in words, f"{relative(document)} names {span}: no configuration key, output or part of a card"


def properties_of_the_card() -> set[str]:
    def names(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = set(part["properties"]) if isinstance(part.get("properties"), dict) else set()
            return own.union(*(names(each) for each in part.values()))
        return set().union(*(names(each) for each in part)) if isinstance(part, list) else set()

    return names(json.loads(generate.SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize("document", PROSE, ids=relative)
def test_keys_in_commands_exist(document: Path) -> None:
    known = paths_of_keys()
    for code in all_code(document):
        for key in re.findall(r"pulumi config (?:set|rm|get)(?: --[\w-]+)* '?(\w[\w:.\[\]-]*)", code):
            path = re.sub(r"\[\d+\]", "", key)
            assert path in known, f"{relative(document)} sets {key}, which the program refuses"


def test_yaml_in_readme_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths of card files are meant from the project's directory.
    monkeypatch.chdir(ROOT)
    blocks = [yaml.safe_load(text) for language, text in code_of(README)[0] if language == "yaml"]
    assert blocks, "README shows a whole configuration first"
    whole = blocks[0]["config"]
    for place, block in enumerate(blocks):
        file = tmp_path / f"Pulumi.block-{place}.yaml"
        file.write_text(yaml.safe_dump({"config": {**whole, **block["config"]}}), encoding="utf-8")
        stack = read_configuration(file)
        assert parse_settings(PROJECT, stack.values, frozenset(stack.secret_keys)), "what README shows is accepted"
