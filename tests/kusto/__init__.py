"""Microsoft's own parser of KQL, from npm: installed once into a cache, started once for all queries."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.banks.npm import installed

HERE = Path(__file__).parent
_CHECK_SECONDS = 120


def complaints(queries: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """What the parser has against each query, in a workspace with these tables and in one with none."""
    schemas = {
        table: f"({', '.join(f'{name}: {kind}' for name, kind in columns.items())})"
        for table, columns in tables.items()
    }
    ran = subprocess.run(
        ["node", str(HERE / "check.js"), str(installed(HERE))],
        input=json.dumps({"tables": schemas, "queries": dict(queries)}),
        capture_output=True,
        text=True,
        check=True,
        timeout=_CHECK_SECONDS,
    )
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found
