"""The policy pack on the real engine: production passes, and a loosened setting is named."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab import ROOT
from lab.azure.engine import Engine, EngineError, find_cli

pytestmark = pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH or in ~/.pulumi/bin")

PACK = ROOT / "policy"
ALONE: dict[str, Any] = {"decentralized-trust:peers": []}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    subprocess.run(["make", "policy"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Engine("policy", tmp_path_factory.mktemp("engine"))


def previewed(engine: Engine, stack: str, *options: str | Path) -> str:
    engine.prepare(stack, changes=ALONE)
    return engine.on_azure(stack, ["preview", "--policy-pack", str(PACK), *map(str, options)])


def test_a_large_member_passes(engine: Engine) -> None:
    assert "decentralized-trust@" in previewed(engine, "prod"), "the policy pack ran"


def test_a_loosened_setting_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(EngineError) as refused:
        previewed(engine, "dev")
    message = str(refused.value)
    for finding in (
        "keys-vault: wanted purge protection (vault_cannot_be_purged",
        "nodes-vms: wanted encryption at host (host_encrypts_disks",
    ):
        assert finding in message, "a finding has the resource, the wanted setting, and the rules that require it"
    assert "circuit" not in message, "a resource that the stack does not have is no finding"


def test_the_policy_pack_can_be_advisory(engine: Engine) -> None:
    output = previewed(engine, "dev", "--policy-pack-config", PACK / "advisory.json")
    assert "[advisory]" in output, "findings are printed, but the preview continues"
