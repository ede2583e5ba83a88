"""Rules that import-linter can't check: `__main__`, imports inside functions, names that exist twice."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lab import ROOT

PACKAGES = ("agent", "components", "contract", "cost", "delivery", "host", "lab", "ledger", "policy", "stack")
OURS = {*PACKAGES, "benchmarks", "docs", "tests"}
PRODUCT = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LATE: dict[str, str] = {
    "host/metrics.py": "a VM without monitoring need not spend the exporter's memory",
}
"""Modules that import inside a function, and why."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or ""


def test_the_program_is_composed_of_rows_alone() -> None:
    ours = {name for _, name in imported(parsed(ROOT / "__main__.py")) if name.split(".")[0] in OURS}
    assert {name.split(".")[0] for name in ours} <= {"stack", "contract"}, (
        "the content of a row belongs to its function"
    )
    lines = (ROOT / "__main__.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130, "it reads like the table in docs/architecture.md"


def test_there_is_no_module_outside_of_the_packages() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__main__.py"], (
        "import-linter checks packages, and would miss a single module"
    )


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_no_import_hides_in_a_function(path: Path) -> None:
    tree = parsed(path)
    top = set(tree.body) | {
        each
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for each in node.body
    }
    late = [name for node, name in imported(tree) if node not in top]
    if relative(path) in LATE:
        assert late, f"{relative(path)} has no late import any more: remove it from the list"
        assert not [name for name in late if name.split(".")[0] in PACKAGES], (
            "a late import of the project's own module hides a circle"
        )
    else:
        assert late == [], "a circle, or an expensive import that belongs in LATE"


def twice(names: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in names.items() if len(set(places)) > 1}


def test_each_class_has_a_unique_name() -> None:
    places = defaultdict(list)
    for path in PRODUCT:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(relative(path))
    assert twice(places) == {}, "a reader must find a class by its name"


def constants(path: Path) -> Iterator[tuple[str, str]]:
    for node in parsed(path).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                pairs = (
                    zip(target.elts, node.value.elts, strict=True)
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                    else [(target, node.value)]
                )
                for name, value in pairs:
                    if isinstance(name, ast.Name) and name.id.isupper() and len(name.id) > 2:
                        yield name.id, ast.unparse(value)


def test_no_constant_has_two_values() -> None:
    values = defaultdict(list)
    for path in PRODUCT:
        for name, value in constants(path):
            values[name].append((relative(path), value))
    differing = {
        name: [place for place, _ in found]
        for name, found in values.items()
        if len({value for _, value in found}) > 1
    }
    assert differing == {}, "a constant must have one value"
