"""What the banks on this machine are made of: a load balancer like Azure's, and the five steps themselves."""

import re
import subprocess
from pathlib import Path

import pytest

from agent.ports import HEALTH_PATH, HEALTH_PORT, NETWORK_INFO
from ledger.corda import CORDA
from ledger.platform import identities, listeners
from local import balancer, scenario
from tests.runs import one, sample

VMS = {"vm-1": "127.0.9.11", "vm-2": "127.0.9.12"}
BEHIND = (*listeners(identities(CORDA, "O=Bank A, L=London, C=GB", 2)), NETWORK_INFO)


def proxies(text: str) -> dict[str, list[str]]:
    """The lines of each proxy in a configuration, by its name."""
    return {
        part.split("\n", 1)[0]: [line.strip() for line in part.splitlines()[1:]]
        for part in re.split(r"^listen ", text, flags=re.MULTILINE)[1:]
    }


def test_the_balancer_has_the_rules_and_probes_of_azures() -> None:
    run = sample("bank-b")
    azure = one(run, "LoadBalancer").inputs
    probes = {probe["name"]: probe for probe in azure["probes"]}
    bank = identities(CORDA, "O=Bank B, L=Paris, C=FR", len(run.outputs["member"]["nodes"]))
    here = proxies(balancer.configuration("127.0.9.254", (*listeners(bank), NETWORK_INFO), VMS))
    rules = {rule["name"]: rule for rule in azure["loadBalancingRules"]}
    assert set(here) == set(rules), "a listener has a rule on Azure and here"
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
                f"{name}: a VM that is gone is left after the same time"
            )


def test_a_probe_over_http_asks_for_its_path() -> None:
    lines = proxies(balancer.configuration("127.0.9.254", BEHIND, VMS))[NETWORK_INFO.name]
    assert f"option httpchk GET {HEALTH_PATH}" in lines
    assert all(f"check port {HEALTH_PORT} " in line for line in lines if line.startswith("server "))


@pytest.mark.skipif(not balancer.available(), reason="no HAProxy here")
def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(balancer.configuration("127.0.9.254", BEHIND, VMS))
    checked = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.ledger
@pytest.mark.skipif(scenario.missing() is not None, reason=str(scenario.missing()))
def test_the_five_steps_a_takeover_and_a_join(tmp_path: Path) -> None:
    outcome, takeover = scenario.play(tmp_path, stream_seconds=60)
    print(f"{outcome}; {takeover}")
    assert outcome.committed > 0, "updates were made during the takeover"
    assert outcome.whole, f"nothing is lost, nothing is doubled, all is answered: {outcome}"
