"""Which source files a VM runs: those that its program can come to import, and no other."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import agent
import ledger

ROOT = Path(agent.__path__[0]).parent
_PACKAGES = (agent.__name__, ledger.__name__)
_INSTALLER = "ledger.install"


def every_file() -> dict[str, str]:
    """All that any VM runs, by its path below the folder of both packages."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for package in _PACKAGES
        for suffix in ("py", "java")
        for path in sorted((ROOT / package).rglob(f"*.{suffix}"))
    }


def files_of(module: str, platform: str | None) -> dict[str, str]:
    """What a VM runs whose program is `module` and whose ledger is that of `platform`; None is none.

    A platform's module is found by its name, not by an import; its Java sources are compiled on the VM.
    """
    every = every_file()
    modules = {_module(path): path for path in every if path.endswith(".py")}
    wanted, found = [module, f"{module}.__main__", _INSTALLER], set[str]()
    if platform:
        wanted.append(f"ledger.{platform}")
    while wanted:
        name = wanted.pop()
        if name in found or name not in modules:
            continue
        found.add(name)
        wanted.extend(_imported(every[modules[name]], name))
        # A module's packages are loaded before it.
        wanted.extend(name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1))
    java = f"ledger/{platform}/java/"
    return {
        path: text
        for path, text in every.items()
        if path in {modules[name] for name in found} or (platform and path.startswith(java))
    }


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(source: str, name: str) -> Iterator[str]:
    """Modules that a module imports, at its start or later."""
    package = name if importlib.util.find_spec(name).submodule_search_locations else name.rpartition(".")[0]  # type: ignore[union-attr]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{each.name}" for each in node.names)
