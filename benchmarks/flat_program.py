"""A flat program: registers the resources of a JSON file beside it, with literal inputs.

It imports only what any Pulumi program for Azure must import.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import pulumi


def _literal(value: dict[str, Any]) -> Any:
    return pulumi.Output.secret(value["$secret"]) if "$secret" in value else value


for _package, _kind, _name, _inputs, _protect in json.loads(
    Path(__file__).with_name("resources.json").read_text(encoding="utf-8"), object_hook=_literal
):
    _class = getattr(importlib.import_module(_package), _kind)
    _class(_name, opts=pulumi.ResourceOptions(protect=_protect or None), **_inputs)
