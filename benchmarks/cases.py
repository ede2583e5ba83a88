"""The input of a measured plan: a member, Azure's answers, and the flat program with the same resources."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from benchmarks.flat import write_flat_program
from benchmarks.members import ACCOUNT, member_with_peers
from lab import ROOT
from lab.azure import rules
from lab.azure.azure import OfflineAzure
from lab.azure.deployment import Deployment
from lab.azure.program import ORGANIZATION, PROJECT, References, StackConfiguration, run_program
from lab.azure.recorder import Registration

BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Environment of measured processes: lets Python write bytecode, else the program is compiled at each start."""

_INVOKED = {
    "azure-native:authorization:getClientConfig": {},
    # Each peer's gateway has this answer.
    "azure-native:network:getVirtualNetworkGateway": {
        "subscriptionId": "of-a-peer",
        "resourceGroupName": "group",
        "virtualNetworkGatewayName": "gateway",
    },
}
"""The functions of azure-native that the program calls, with arguments."""


@dataclass(frozen=True)
class Case:
    """One member, and two programs that register its resources."""

    file: Path
    """JSON file with the configuration and Azure's answers, which `one_plan` reads."""
    flat: Path
    """The flat program."""
    resources: int
    """The number of resources."""

    program: Path = ROOT / "__main__.py"
    """This project's program."""


class _Recording(Deployment):
    """Records Azure's answers, by type and name."""

    answers: dict[str, tuple[str, dict[str, Any]]]

    def begin(self) -> None:
        super().begin()
        self.answers = {}

    def apply(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        answer = super().apply(wanted)
        self.answers[f"{wanted.type} {wanted.name}"] = answer
        return answer


def case_with_peers(peers: int, folder: Path) -> Case:
    """The case of the large member of `Pulumi.prod.yaml` with this number of peers, in a new folder."""
    folder.mkdir(parents=True)
    # The peers' gateways do not exist in this offline Azure, and its rules are not measured.
    with mock.patch.object(rules, "refuse_broken"):
        return write_case(member_with_peers(peers, folder), folder)


def write_case(
    configuration: StackConfiguration, folder: Path, references: References = MappingProxyType({})
) -> Case:
    """Run the program once, and write the case with the registered resources and Azure's answers into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    deployment = _Recording(OfflineAzure().account(ACCOUNT))
    run = run_program(configuration, references=references, deployment=deployment)
    case = {
        "project": PROJECT,
        "stack": configuration.stack,
        "configuration": dict(configuration.values),
        "secretKeys": configuration.secret_keys,
        "resources": deployment.answers,
        "calls": {token: deployment.azure.invoke(token, names) for token, names in _INVOKED.items()},
        "stacks": {f"{ORGANIZATION}/{PROJECT}/{configuration.stack}": {}, **references},
    }
    file = folder / "case.json"
    file.write_text(json.dumps(case), encoding="utf-8")
    return Case(file, write_flat_program(run, folder / "flat"), len(deployment.answers))
