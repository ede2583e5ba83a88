"""Two banks of one Entra tenant that are linked by `ipsec`, beside a third bank: direct routes come by BGP.

Requires root, strongSwan and FRR.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lab.azure.consortium import SAMPLE_CONSORTIUM, Consortium, InProcess
from lab.azure.program import PROJECT
from lab.banks.process import until
from lab.links.mesh import Mesh, missing
from lab.links.plans import MemberPlan
from tests.links.judged import judged

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("one-tenant")
    sample = shutil.copytree(SAMPLE_CONSORTIUM, folder / "sample")
    for file in sample.glob("Pulumi.*.yaml"):
        document = yaml.safe_load(file.read_text())
        for peer in document["config"][f"{PROJECT}:peers"]:
            peer["link"] = "ipsec"
        file.write_text(yaml.safe_dump(document))
    front = InProcess(folder / "banks")
    Consortium(front, Console(quiet=True)).sample(sample)
    with Mesh(MemberPlan.of(run) for run in front.runs.values()) as made:
        made.connect()
        yield made


def test_the_direct_route_of_an_ipsec_link_is_required_in_one_tenant_too(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank_a, bank_b, bank_c = (mesh.members[name] for name in ("bank-a", "bank-b", "bank-c"))
    assert bank_a.plan.card["tenantId"] == bank_b.plan.card["tenantId"], (
        "otherwise it would be the sample's default link"
    )

    def over(*paths: str) -> bool:
        """Whether the routes to bank B have these AS paths, and no others."""
        space = str(bank_b.plan.space)
        return {each["asPath"] for each in bank_a.learned_routes() if each["network"] == space} == set(paths)

    direct, over_c = str(bank_b.plan.asn), f"{bank_c.plan.asn}-{bank_b.plan.asn}"
    until(lambda: over(direct, over_c), 30, "both ways")
    status, said = judged(bank_a, mesh, tmp_path, capsys)
    assert (status, "0 foreign, 0 unclear" in said) == (0, True), said

    sessions = [(mine, theirs.plan.bgp_ip) for mine in bank_a.instances for theirs in bank_b.instances]
    for mine, theirs in sessions:
        mine.frr.end_session(theirs)
    try:
        until(lambda: over(over_c), 30, "the way over bank C alone")
        status, said = judged(bank_a, mesh, tmp_path, capsys)
        assert (status, "carries bank-b's traffic; wanted a shorter route from bank-b itself" in said) == (1, True), (
            f"the tunnels are up, but bank C carries their traffic: {said}"
        )
    finally:
        for mine, theirs in sessions:
            mine.frr.allow_session(theirs)
