"""The banks on this machine: a load balancer with Azure's rules, and the scenario's five steps."""

import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from contract.frontend import NETWORK_INFO, listeners
from contract.identities import identities
from contract.ports import HEALTH_PATH, HEALTH_PORT
from lab.banks import balancer, scenario
from ledger.corda import CORDA
from tests.runs import one, sample

VMS = {"vm-1": "127.0.9.11", "vm-2": "127.0.9.12"}
BEHIND = (*listeners(identities(CORDA, "O=Bank A, L=London, C=GB", 2)), NETWORK_INFO)


def proxies(text: str) -> dict[str, list[str]]:
    """By proxy: its lines in HAProxy's configuration."""
    return {
        part.split("\n", 1)[0]: [line.strip() for line in part.splitlines()[1:]]
        for part in re.split(r"^listen ", text, flags=re.MULTILINE)[1:]
    }


def test_haproxy_has_the_rules_and_probes_of_azures_load_balancer() -> None:
    run = sample("bank-b")
    azure = one(run, "LoadBalancer").inputs
    probes = {probe["name"]: probe for probe in azure["probes"]}
    bank = identities(CORDA, "O=Bank B, L=Paris, C=FR", len(run.outputs["member"]["nodes"]))
    here = proxies(balancer.configuration("127.0.9.254", (*listeners(bank), NETWORK_INFO), VMS))
    rules = {rule["name"]: rule for rule in azure["loadBalancingRules"]}
    assert set(here) == set(rules), "each listener has a rule on Azure and in HAProxy"
    for name, lines in here.items():
        assert f"bind 127.0.9.254:{rules[name]['frontendPort']:.0f}" in lines, f"{name}: the same port"
        servers = [line for line in lines if line.startswith("server ")]
        assert len(servers) == len(VMS), f"{name}: each VM may listen"
        probe = probes[name]
        for server in servers:
            assert f":{rules[name]['backendPort']:.0f} check port {probe['port']:.0f} " in server, (
                f"{name}: the same probe"
            )
            assert f"inter {probe['intervalInSeconds']:.0f}s fall {probe['probeThreshold']:.0f} " in server, (
                f"{name}: a dead VM is removed after the same time"
            )


def test_an_http_probe_requests_its_path() -> None:
    lines = proxies(balancer.configuration("127.0.9.254", BEHIND, VMS))[NETWORK_INFO.name]
    assert f"option httpchk GET {HEALTH_PATH}" in lines
    assert all(f"check port {HEALTH_PORT} " in line for line in lines if line.startswith("server "))


@pytest.mark.skipif(not balancer.available(), reason="no HAProxy here")
def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(balancer.configuration("127.0.9.254", BEHIND, VMS))
    checked = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(scenario.missing() is not None, reason=str(scenario.missing()))
def test_a_scenario_that_is_terminated_ends_its_banks() -> None:
    program = (
        "import time; from lab.banks.scenario import show\n"
        "def played(folder, stack):\n"
        "    stack.callback(print, 'ended'); print('runs', flush=True); time.sleep(60)\n"
        "show(played)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "runs\n"
        running.terminate()
        assert running.stdout.read() == "ended\n", "nodes and databases must not run on"
    assert running.returncode == 128 + signal.SIGTERM


@pytest.mark.skipif(scenario.missing() is not None, reason=str(scenario.missing()))
def test_the_scenarios_five_steps_with_a_takeover_and_a_join(tmp_path: Path) -> None:
    with ExitStack() as stack:
        outcome, takeover = scenario.play(scenario.Scenario(tmp_path, stack), stream_seconds=60)
    print(f"{outcome}; {takeover}")
    assert outcome.committed > 0, "updates were made during the takeover"
    assert outcome.whole, f"no record may be lost or duplicated, and each request must be answered: {outcome}"
