"""The runbook's command, run on the routes that a gateway in the mesh has learned."""

import json
from pathlib import Path

import pytest

from lab.links.mesh import Mesh, RunningMember
from stack import routes


def judged(member: RunningMember, mesh: Mesh, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status and output of the command, with the runbook's files in a folder."""
    peers = [each.plan for each in mesh.members.values() if each is not member]
    for plan in peers:
        (folder / f"{plan.name}.json").write_text(json.dumps(plan.card))
    (folder / "own.json").write_text(json.dumps(member.plan.outputs))
    (folder / "routes.json").write_text(json.dumps({"value": member.learned_routes()}))
    files = ("routes", "own", *(plan.name for plan in peers))
    status = routes.main([str(folder / f"{each}.json") for each in files])
    return status, capsys.readouterr().out
