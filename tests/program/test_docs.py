"""The documents agree with the code: generated parts are current, and names in prose exist."""

import ast
import inspect
import json
import re
import subprocess
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from benchmarks.goals import FIGURES
from components.flows import Remote
from components.ledger_database import vcores
from contract.metrics import Metric
from contract.ports import HEALTH_PATH, HEALTH_PORT
from cost.bill import Bill
from cost.prices import EXACT, REGION, read_price_list
from cost.usage import Usage
from docs import generate
from docs.blocks import StaleError, with_blocks, write_block
from docs.generate import OUTPUTS, PROJECT_FILE, README, Key
from host.health import report
from host.status import Status
from lab import ROOT
from lab.azure.engine import STATE
from lab.azure.plan.formats import UNCUT
from lab.azure.plan.planned import plan_of
from lab.azure.plan.text import plan_tree
from lab.azure.program import PROJECT, Run, read_configuration
from lab.azure.refusals import CASES
from lab.azure.rules import types_by_rule
from lab.azure.stacks import stack_file
from ledger.corda import CORDA
from stack import rows
from stack.settings import LOCATION_KEY, MAX_VMS, Settings, parse_settings
from tests import guide, runs
from tests.configuration import configuration
from tests.runs import bank

OF_ROOT = sorted(ROOT.glob("*.md"))
OF_EXAMPLES = sorted((ROOT / "examples").rglob("*.md"))
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ERRORS = ROOT / "docs" / "errors.md"
OF_PARTS = [generate.LAB_README, ROOT / "agent" / "README.md", ROOT / "image" / "README.md"]
DOCUMENTS = [*OF_ROOT, *OF_PARTS, *sorted((ROOT / "docs").rglob("*.md")), *OF_EXAMPLES]
# The checklist quotes published rules in Azure's words; examples have other keys.
PROSE = [document for document in DOCUMENTS if document not in {generate.CHECKLIST, *OF_EXAMPLES}]
GENERATED = [
    generate.CONFIGURATION,
    generate.OUTPUTS_PAGE,
    generate.COMPATIBILITY,
    generate.LAB_README,
    generate.PROJECT_FILE,
    generate.SCHEMA,
    generate.SAMPLE_CARD,
    generate.CHECKLIST,
    generate.NETWORK,
    generate.COST,
    generate.MONITORING,
    generate.ALERTS,
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CAMEL_CASE = re.compile(r"[a-z]+([A-Z][a-z0-9]*)+")


@pytest.fixture(scope="module")
def sample() -> Run:
    """The run of `docs.generate`, which other tests share."""
    assert stack_file("bank-c") == generate.SAMPLE_STACK, "the sample card is bank C's"
    return bank("bank-c", linked=False)


@pytest.fixture(scope="module")
def sizes() -> list[Bill]:
    return runs.size_bills()


@pytest.fixture(scope="module")
def wanted(sample: Run, sizes: list[Bill]) -> dict[Path, str]:
    return generate.documents(sample, sizes)


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
    assert path in wanted, "a document that is no longer generated must not be listed"
    assert path.read_text(encoding="utf-8") == wanted[path], f"{relative(path)} is stale; `make docs` writes it"


def test_the_published_schema_is_the_programs(wanted: dict[Path, str], sample: Run) -> None:
    schema = json.loads(wanted[generate.SCHEMA])
    card = sample.outputs["member"]
    assert set(card) == set(schema["properties"]), "peers validate cards by the published schema"


def test_the_outputs_table_has_exactly_the_exported_outputs(sample: Run) -> None:
    assert set(OUTPUTS) == set(sample.outputs), "each output of the stack is explained, and nothing else"


@pytest.mark.parametrize("remote", Remote)
def test_the_network_document_explains_each_outer_end(remote: Remote) -> None:
    text = generate.NETWORK.read_text(encoding="utf-8")
    assert f"\n- {remote}: " in text, "the document must say whose addresses an end has"


def test_no_output_of_the_table_is_secret(sample: Run) -> None:
    assert not sample.secret_outputs, "a reader of one output can read all of them"


def test_the_production_sample_pins_the_sample_card(sample: Run) -> None:
    assert generate.wrong_pin(sample.outputs["member"]) is None, (
        "Pulumi.prod.yaml must pin the key that signed examples/three-banks/bank-c.json, or it can't be planned"
    )


def test_a_changed_signing_key_is_reported(sample: Run) -> None:
    other = {**sample.outputs["member"], "signingKey": sample.outputs["member"]["linkPublicKey"]}
    assert generate.wrong_pin(other), "a changed key must be reported, since an operator has to pin it"


def test_generate_names_each_stale_document(tmp_path: Path) -> None:
    current, old, missing = tmp_path / "current", tmp_path / "old", tmp_path / "missing"
    current.write_text("now", encoding="utf-8")
    old.write_text("then", encoding="utf-8")
    stale = generate.stale({current: "now", old: "now", missing: "now"})
    assert stale == [old, missing], "only changed documents are written"


def test_each_rule_of_the_offline_azure_has_a_row_with_its_source_and_a_test() -> None:
    rows = generate.rules_table(CASES).splitlines()[2:]
    assert len(rows) == len(types_by_rule()), "exactly one row for each rule"
    for row in rows:
        _, rule, source, refused = (cell.strip() for cell in row.strip("|").split(" | "))
        assert "https://" in source, f"{rule!r} needs a source, so that readers can check it"
        assert refused, f"{rule!r} needs a case that breaks it"


def test_an_unlisted_source_is_refused() -> None:
    for code in ("QQ", "QQ #1"):
        with pytest.raises(StaleError, match=code):
            generate._source(code)


def test_generating_twice_changes_nothing(wanted: dict[Path, str], sizes: list[Bill]) -> None:
    page = wanted[generate.CONFIGURATION]
    assert with_blocks(page, generate.CONFIGURATION, generate.blocks(sizes)[generate.CONFIGURATION]) == page, (
        "tables stay where they are"
    )
    assert generate._project(wanted[PROJECT_FILE]) == wanted[PROJECT_FILE], "`config:` is replaced, not added to"


def test_readme_shows_the_printed_plan() -> None:
    plan = plan_of(runs.sample("prod"), runs.sample("prod").ids)
    console = Console(width=UNCUT, record=True, file=StringIO())
    console.print(plan_tree(plan))
    printed = {each.rstrip() for each in console.export_text().splitlines()}
    (shown,) = re.findall(
        r"^\$ make preview\n(.*?)^Planned in this process", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [each for each in shown.splitlines() if each != "..."]
    assert len(lines) > 5
    assert not set(lines) - printed, "the command prints something else"


def test_the_costs_of_the_sizes_are_components_and_totals(wanted: dict[Path, str], sizes: list[Bill]) -> None:
    (shown,) = re.findall(r"\$ make cost\n(.*?)```", wanted[generate.CONFIGURATION], re.DOTALL)
    assert all(f"{each.total:,.2f}" in shown for each in sizes), "the totals must be there"
    assert not [name for each in sizes for name in each.components if f"\n{name} " not in shown]
    assert "an estimate" in shown, "the range and its reason are stated"
    assert "vm/" not in shown


def test_every_price_without_a_second_source_is_listed(wanted: dict[Path, str]) -> None:
    price_list = read_price_list()
    unverified = {
        name
        for name in price_list.meters
        if (found := price_list.price(name, REGION)) and found.verified not in EXACT
    }
    assert not [name for name in unverified if f"| `{name}` | " not in wanted[generate.COST]], "also beyond the sizes"


def test_the_costs_in_the_docs_have_prices(wanted: dict[Path, str]) -> None:
    text = wanted[generate.COST]
    (complete,) = re.findall(r"generated: complete -->\n(.*)\n", text)
    assert f"`{REGION}`" in complete
    assert "`eastus2`" not in complete, "its servers are of another generation, which the price list lacks"
    offline = (ROOT / "docs" / "offline.md").read_text("utf-8")
    asked = re.findall(r"`(STACK=[^`]+)`", text) + re.findall(r"make cost (STACK=[^`\n]+)", text + offline)
    assert len(asked) > 3
    assert not [each for each in asked if f"REGION={REGION}" not in each], "the samples' own regions lack prices"


def test_a_lost_marker_is_refused() -> None:
    text = generate.CONFIGURATION.read_text(encoding="utf-8").replace("<!-- generated: sizes -->", "")
    with pytest.raises(StaleError, match="sizes"):
        with_blocks(text, generate.CONFIGURATION, {"configuration": "", "sizes": "", "cost": ""})


def test_a_benchmark_replaces_its_own_block_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docs.blocks.ROOT", tmp_path)
    (page := tmp_path / "figures.md").write_text(
        "Before\n<!-- generated: agent -->\nold\n<!-- end of generated -->\n"
        "Between\n<!-- generated: ledger -->\nstays\n<!-- end of generated -->\n"
    )
    write_block(page, "agent", "new\n")
    assert page.read_text().splitlines() == [
        "Before",
        "<!-- generated: agent -->",
        "new",
        "<!-- end of generated -->",
        "Between",
        "<!-- generated: ledger -->",
        "stays",
        "<!-- end of generated -->",
    ], "text and other blocks stay"
    with pytest.raises(StaleError, match=r"^figures.md has blocks for \['agent', 'ledger'\]; wanted planning$"):
        write_block(page, "planning", "")


def test_the_benchmarks_have_their_blocks() -> None:
    blocks = set(re.findall(r"<!-- generated: (\w+) -->", FIGURES.read_text(encoding="utf-8")))
    assert blocks == {"ledger", "planning", "deployment", "agent"}, (
        "a bench that writes its results finds their place"
    )


def test_a_lost_config_section_is_refused() -> None:
    with pytest.raises(StaleError, match="config:"):
        generate._project("name: decentralized-trust\n")


def test_text_around_the_config_section_stays() -> None:
    text = generate._project("name: x\nconfig:\n  old: {}\nplugins:\n  providers: []\n")
    assert text.startswith("name: x\nconfig:\n"), "text before it stays"
    assert text.endswith("\nplugins:\n  providers: []\n"), "text after it stays"
    assert "old" not in text, "the old section is replaced"


def test_required_keys_come_first() -> None:
    top: list[Key] = [key for key in generate.all_keys() if "." not in key.path or key.path == LOCATION_KEY]
    required = [key.field.is_required() for key in top]
    assert required == sorted(required, reverse=True), "readers of a first configuration start at the top"
    assert len(top) == len(Settings.model_fields), "every key of the program is there"


def test_the_number_of_nodes_that_changes_the_database_is_the_documented_one() -> None:
    needs = CORDA.database
    assert needs is not None
    cores = [
        vcores(count, needs.identities_per_vcore, needs.connections_per_identity) for count in range(1, MAX_VMS + 1)
    ]
    steps = [count for count, (fewer, more) in enumerate(pairwise(cores), 2) if fewer != more]
    assert steps == [9], "each further step restarts the database too"
    text = " ".join(generate.CONFIGURATION.read_text("utf-8").split())
    assert "from eight nodes to nine or back, the database gets other vCores" in text


# Pulumi.yaml


@pytest.fixture(scope="module")
def declared() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(PROJECT_FILE.read_text(encoding="utf-8"))["config"]


def test_pulumi_requires_the_same_keys_as_the_program(declared: dict[str, dict[str, Any]]) -> None:
    demanded = {key for key, declaration in declared.items() if "default" not in declaration}
    required = {field.alias for field in Settings.model_fields.values() if field.is_required()}
    assert demanded == required - {LOCATION_KEY}, "Pulumi requires each declared key without a default"


def test_each_declared_key_is_one_of_the_program(declared: dict[str, dict[str, Any]]) -> None:
    for key, declaration in declared.items():
        field = next((each for each in Settings.model_fields.values() if each.alias == key), None)
        assert field is not None, f"the program refuses the key {key}"
        assert declaration["description"] == field.description, "the descriptions are the same everywhere"
        assert declaration["type"] in ("string", "integer", "boolean", "array", "object"), "Pulumi knows no others"


def test_declared_defaults_are_the_programs_defaults(declared: dict[str, dict[str, Any]]) -> None:
    defaults = {
        f"{PROJECT}:{key}": json.dumps(declaration["default"])
        for key, declaration in declared.items()
        if "default" in declaration
    }
    values = configuration()
    assert parse_settings(PROJECT, {**defaults, **values}) == parse_settings(PROJECT, values), (
        "Pulumi passes declared defaults to the program, whose own defaults must be the same"
    )


# Names in prose


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{relative(document)} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(file), f"{relative(document)} links to {target}, which has no such heading"


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_paths_and_tests_in_prose_exist(document: Path, names_of_tests: set[str]) -> None:
    # Files that commands write exist on some machines only.
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path != STATE}
    for span in code_of(document)[1]:
        if re.fullmatch(r"test_\w+", span):
            assert span in names_of_tests, f"{relative(document)} names {span}: no such test"
        elif re.fullmatch(r"[\w./-]+", span) and "/" in span and span.split("/")[0] in folders:
            assert (ROOT / span).exists(), f"{relative(document)} names {span}, which does not exist"


@pytest.fixture(scope="module")
def names_of_tests() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r"def (test_\w+)", text)}


def test_each_threat_has_a_control_and_a_test() -> None:
    document = ROOT / "docs" / "threat-model.md"
    lines = document.read_text(encoding="utf-8").split("\n## Compared with", 1)[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and "---" not in line]
    threats = [row for row in rows if row != ["It can try", "Control", "Test"]]
    assert len(threats) > 25
    for row in threats:
        assert len(row) == 3, f"{row[0]}: wanted a control and a test"
        # `test_links_lead_somewhere` checks that linked files exist.
        assert re.search(r"\]\(\.\./tests/\w+/test_\w+\.py\)", row[2]), f"{row[0]}: no test covers it"


def test_each_pair_of_versions_has_a_test() -> None:
    text = generate.COMPATIBILITY.read_text(encoding="utf-8")
    tables = text.split("| Newer | Older | What happens | Test |\n| --- | --- | --- | --- |\n")[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    assert len(rows) > 15
    # `test_paths_and_tests_in_prose_exist` checks that named tests exist.
    assert not [row for row in rows if not re.search(r"\| `test_\w+` \|$", row)], "compatible versions are tested"


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
    words |= {str(field.alias) for field in Usage.model_fields.values()}
    for span in code_of(document)[1]:
        path = span.replace("[]", "")
        if re.fullmatch(r"\w+(\.\w+)+(?<!\.py)", path) and path.split(".")[0] in tops:
            # Metrics are named after the ledger too.
            assert path in known | set(Metric), f"{relative(document)} names {span}: no key of the program"
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


def test_the_configuration_of_the_guide_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths of card files are relative to the project's directory.
    monkeypatch.chdir(ROOT)
    pages = [guide.DOCS / page for page in dict.fromkeys(guide.PAGES.values())]
    blocks = [yaml.safe_load(text) for page in pages for language, text in code_of(page)[0] if language == "yaml"]
    assert len(blocks) > 2, "a complete configuration first, then additions to it"
    whole = blocks[0]["config"]
    for place, block in enumerate(blocks):
        file = tmp_path / f"Pulumi.block-{place}.yaml"
        file.write_text(yaml.safe_dump({"config": {**whole, **block["config"]}}), encoding="utf-8")
        stack = read_configuration(file)
        assert parse_settings(PROJECT, stack.values, frozenset(stack.secret_keys)), (
            "the guide's configuration is accepted"
        )


def test_runbooks_read_the_journal_of_the_right_program() -> None:
    unproven = (ROOT / "docs" / "runbooks" / "unproven-requests.md").read_text("utf-8")
    (unit, words) = re.findall(r'journalctl --unit (\S+) .*grep "(.+?)"', unproven)[0]
    source = (ROOT / "ledger" / "corda" / "authority" / "server.py").read_text("utf-8")
    assert (unit, words in source) == ("ledger-authority", True), "an empty search result would mislead the operator"
    unexpected = (ROOT / "docs" / "runbooks" / "an-unexpected-exception.md").read_text("utf-8")
    assert set(re.findall(r"--unit (\S+)", unexpected)) == {"ledger-agent", "ledger-authority"}, (
        "both may have faults"
    )


def test_properties_that_operators_read_after_an_update_exist() -> None:
    text = guide.text("After `pulumi up`")
    asked = set(re.findall(r"VM's `(\w+)` \||'s `(\w+)` and `(\w+)`|`(lacks)`", text))
    keys = {each for found in asked for each in found if each}
    assert {"state", "node", "reason", "members", "lacks"} == keys, "each key of the table exists"
    assert keys <= report(Status(vm="vm")).keys(), "and the health report has it"
    assert f"localhost:{HEALTH_PORT}{HEALTH_PATH}" in text
    waits = "waits; wanted: approved by an operator of the network's authority"
    assert waits in text
    assert waits in (ROOT / "ledger" / "corda" / "enrolment.py").read_text(encoding="utf-8"), "in the agent's words"
    assert set(re.findall(r"`(ledger\.[a-z.]+)`", text)) <= set(Metric)


def test_the_documented_duration_of_a_takeover_is_the_measured_one() -> None:
    figures = FIGURES.read_text("utf-8")
    (median,) = re.findall(r"^\| takeover: node ready, s \| \**(\d+)\** \|", figures, re.MULTILINE)
    runbooks = ROOT / "docs" / "runbooks"
    said = {
        path.stem: re.findall(r"median\s+of\s+(\d+) s", path.read_text("utf-8")) for path in runbooks.glob("*.md")
    }
    assert {name for name, seconds in said.items() if seconds} == {"loss-of-the-notary", "own-nodes-are-missing"}
    assert all(seconds in ([], [median]) for seconds in said.values()), "operators on call rely on it"


OF_OTHERS = {
    "Stack '...' is missing configuration values": "Pulumi",
    "unable to replace resource": "Pulumi",
    "cannot be deleted because it is protected": "Pulumi",
    "cannot create already existing resource .../secrets/...": "pulumi-azure-native",
    "LocationIsOfferRestricted": "Azure",
    "RoleDefinitionDoesNotExist": "Azure",
    "RoleDefinitionHasAssignments": "Azure",
    "StorageAccountOperationInProgress": "Azure",
    "ReferencedResourceNotProvisioned": "Azure",
    "AnotherOperationInProgress": "Azure",
    "ConflictError": "Azure",
    "RetryableError": "Azure",
    "InvalidPrivateLinkServiceId": "Azure",
    "Requested data Disk size ... cannot be less than current size": "Azure",
    "LinkedAuthorizationFailed": "Azure",
    "UnmatchedPrincipalType": "Azure",
    "The subscription is not registered to use namespace": "Azure",
    "'Microsoft.Compute/EncryptionAtHost' feature is not enabled": "Azure",
    "NotConnected": "Azure",
    "Connecting": "Azure",
    "server certificate for ... does not match host name": "libpq",
}
"""Messages in docs/errors.md that this project does not write, and whose they are."""


def texts_of_the_program() -> list[str]:
    """Every text in the deployed code; a placeholder of an f-string is a zero byte."""
    packages = ("agent", "components", "contract", "host", "ledger", "stack")
    modules = [ast.parse(path.read_text("utf-8")) for each in packages for path in (ROOT / each).rglob("*.py")]
    return [_text_of(node) for module in modules for node in ast.walk(module)]


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(each) or "\0" for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_each_explained_message_exists_in_the_code() -> None:
    rows = re.findall(r"^\| (.*?) \| .* \|$", ERRORS.read_text("utf-8"), re.MULTILINE)
    messages = {message for row in rows for message in _SPAN.findall(row)}
    assert len(messages) > 50
    assert OF_OTHERS.keys() <= messages, "an exception for a removed message must be removed"
    texts = "\n".join(filter(None, texts_of_the_program()))
    for message in messages - OF_OTHERS.keys():
        # The parts before and after "wanted" are joined elsewhere.
        parts = [each.strip(" :;,()'") for each in re.split(r"\.\.\.|; wanted|^wanted|REGION|DATE|[`']", message)]
        missing = [each for each in parts if not any(re.search(pattern, texts) for pattern in _spellings(each))]
        assert not missing, f"docs/errors.md explains {message!r}: the program has no text {missing}"


def _spellings(part: str) -> list[str]:
    """Patterns of a message's part, of which one word may be a placeholder."""
    words = [re.escape(each) for each in part.split()]
    places = range(len(words) if len(words) > 1 else 0)
    one_open = [[*words[:i], re.sub(r"\w+", "\0", words[i]), *words[i + 1 :]] for i in places]
    return [r"\s+".join(each) for each in ([words] if words else [[]]) + one_open]


def test_main_has_one_line_for_each_row_of_the_table_of_components():
    program = ast.parse((ROOT / "__main__.py").read_text(encoding="utf-8"))
    attributes = [node for node in ast.walk(program) if isinstance(node, ast.Attribute)]
    called = [node.attr for node in attributes if ast.unparse(node.value) == "rows" and node.attr.islower()]
    made = [str(inspect.signature(getattr(rows, name)).return_annotation) for name in called]
    section = (
        ARCHITECTURE.read_text(encoding="utf-8").split("| Component | What it makes |", 1)[1].split("\n\n", 1)[0]
    )
    components = [
        name for cell in re.findall(r"^\| (.*?) \|", section, flags=re.MULTILINE) for name in re.findall(r"\w+", cell)
    ]
    assert len(components) == len(made), "a row for each component, and a line for each row"
    for component in components:
        lines = [each for each in made if re.search(rf"\b{component}\b", each)]
        assert len(lines) == 1, f"one line of __main__ makes {component}"


def test_readme_is_an_overview() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 200, "longer texts belong in docs/"


def test_the_layout_lists_each_folder() -> None:
    table = ARCHITECTURE.read_text("utf-8").partition("| File or folder | What it holds |")[2].partition("\n\n")[0]
    listed = {
        (ARCHITECTURE.parent / target).resolve()
        for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        for target in _LINK.findall(cell)
    }
    listed = {path.parent if path.name == "__init__.py" else path for path in listed}
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
    folders = {path for path in ROOT.glob("[!._]*/") if path.name not in ignored}
    missing = (folders | {path.parent for path in (ROOT / "lab").glob("*/*.py")}) - listed
    assert not missing, f"it lacks {sorted(map(relative, missing))}"


def test_documents_name_each_tier() -> None:
    tiers = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    (row,) = re.findall(r"^\| \[tests/\].*", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == tiers, "the layout lists the tiers"
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = contributing.partition("| Tier | Command |")[2].partition("\n\n")[0]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^(test[a-z-]*|fuzz):", makefile, re.MULTILINE))
    assert set(re.findall(r"\| `make ([a-z-]+)` \|", table)) == targets, "and the command of each"
    assert "runs lint and every tier but fuzz for each change" in contributing
    changes, nights = ((ROOT / ".ci" / each).read_text("utf-8") for each in ("run", "nightly"))
    by_change = {target for target in targets if f"section make {target}\n" in changes}
    assert by_change == targets - {"fuzz", "test-all"}
    nightly = {"test-ledger", "test-vm", "test-links", "fuzz"}
    assert nightly == {target for target in targets - {"test"} if re.search(rf"\b{target}\b", nights)}


def test_documents_say_how_many_histories_run_when() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    module = (ROOT / "tests" / "unit" / "test_agent_histories.py").read_text("utf-8")
    (chosen,) = re.findall(r"test_agent_histories\.py -k (\w+)", makefile)
    tests = [name for name in re.findall(r"^def (test_\w+)", module, re.MULTILINE) if chosen in name]
    assert len(tests) == 1, f"the command runs {tests}; wanted the test of random histories alone"
    numbers = [
        *re.findall(r'"HISTORIES", "(\d+)"', module),
        *re.findall(r"make histories HISTORIES=(\d+)", (ROOT / ".ci" / "run").read_text("utf-8")),
        *re.findall(r"\$\(HISTORIES\),(\d+)\)", makefile),
    ]
    default, change, night = (f"{int(each):,}" for each in numbers)
    said = f"{default} in the default tier, {change} for each change in CI, {night} each night (`make histories`)"
    assert said in " ".join((ROOT / "CONTRIBUTING.md").read_text("utf-8").split()), "the numbers are those that run"


@pytest.mark.parametrize(
    ("target", "variables", "refused"),
    [
        ("preview", ["STACK=dev", "REGION=eastus"], "REGION"),
        ("diagram", ["STACK=dev", "AGAINST=last", "USAGE=x"], "USAGE AGAINST"),
        ("cost", ["OUT=x"], "OUT"),
        ("prices", ["STACK=dev"], "STACK"),
        ("preview", ["STACK=dev", "FORMAT=json", "AGAINST=last"], ""),
        ("cost", ["STACK=dev", "REGION=eastus", "USAGE=x", "FORMAT=json", "AGAINST=last"], ""),
    ],
)
def test_a_variable_that_a_command_does_not_read_is_refused(target: str, variables: list[str], refused: str) -> None:
    dry = ["make", "--dry-run", "--no-print-directory", target, *variables]
    recipe = subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    said = f"error: {refused}: make {target} has no such variable; wanted"
    assert (said in recipe) if refused else ("no such variable" not in recipe), "an unknown variable would be ignored"
