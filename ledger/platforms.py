"""The platforms that there are, by name."""

import importlib
import pkgutil
from collections.abc import Iterator

import ledger
from ledger.platform import Platform


def find_platforms() -> dict[str, Platform]:
    """The `PLATFORM` of each module of package `ledger` that has one, by the platform's name.

    Raises:
        ValueError: two have one name.
        TypeError: a `PLATFORM` is none.
    """
    found: dict[str, tuple[str, Platform]] = {}
    for module, platform in _defined():
        if not isinstance(platform, Platform):
            raise TypeError(f"{module}.PLATFORM is a {type(platform).__name__}; wanted a Platform")
        if platform.name in found:
            raise ValueError(
                f"platform {platform.name} is defined by {found[platform.name][0]} and {module}; "
                "wanted a name of its own for each"
            )
        found[platform.name] = module, platform
    return {name: platform for name, (_, platform) in sorted(found.items())}


def _defined() -> Iterator[tuple[str, object]]:
    for each in pkgutil.iter_modules(ledger.__path__, f"{ledger.__name__}."):
        module = importlib.import_module(each.name)
        if hasattr(module, "PLATFORM"):
            yield each.name, module.PLATFORM


PLATFORMS: dict[str, Platform] = find_platforms()
