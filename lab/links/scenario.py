"""The five steps through tunnels: `python -m lab.links.scenario [--latency MILLISECONDS]`.

Networks, gateways and security groups are those of the three sample banks' plans; each VM is a network namespace in
its bank's subnet. Traffic between two banks' nodes passes both banks' rules, and is encrypted.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from lab.azure.consortium import Consortium, InProcess
from lab.banks.scenario import STREAM_SECONDS, Outcome, Scenario, Takeover, parser_of, play, show
from lab.links.delay import delayed
from lab.links.mesh import Mesh, missing
from lab.links.plans import MemberPlan
from lab.links.site import LinkedSite


def linked(stack: ExitStack, latency: float = 0.0) -> Mesh:
    """The three sample banks' networks, until the stack is closed.

    Args:
        stack: what ends them.
        latency: seconds that a packet and its answer take longer between two gateways.

    Raises:
        ValueError: `latency` is negative.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    consortium = Consortium(front := InProcess(folder / "banks"), Console(quiet=True))
    consortium.sample()
    mesh = stack.enter_context(Mesh([MemberPlan.of(run) for run in front.runs.values()], stand_ins=False))
    if latency:
        instances = [instance for member in mesh.members.values() for instance in member.instances]
        devices = [each.namespace.name for each in instances]
        stack.enter_context(delayed(mesh.internet, devices, latency / 2))
    mesh.connect()
    for member in mesh.members.values():
        member.filter()
    return mesh


def linked_scenario(folder: Path, stack: ExitStack, mesh: Mesh, *, recorded: bool = False) -> Scenario:
    """The scenario's banks in a mesh's networks.

    Args:
        folder: of the banks.
        stack: what ends them.
        mesh: linked members.
        recorded: whether bank A sends rows of Log Analytics.
    """
    sites = {name: LinkedSite(member) for name, member in mesh.members.items()}
    for each in sites.values():
        stack.callback(each.end)
    return Scenario(folder, stack, sites=sites, recorded=recorded)


def play_linked(
    folder: Path,
    stack: ExitStack,
    latency: float,
    *,
    stream_seconds: int = STREAM_SECONDS,
    record: Path | None = None,
) -> tuple[Outcome, Takeover, Mesh]:
    """Run the scenario in a mesh's networks.

    Args:
        folder: of the banks.
        stack: what ends them and the mesh.
        latency: see `linked`.
        stream_seconds: how long requests are sent while a VM is killed.
        record: the file for bank A's rows of Log Analytics.
    """
    mesh = linked(stack, latency)
    scenario = linked_scenario(folder, stack, mesh, recorded=record is not None)
    scenario.say(f"{len(mesh.tunnels) // 2} tunnels are up")
    outcome, takeover = play(scenario, stream_seconds, record)
    for one, other, megabytes in mesh.carried():
        scenario.say(f"{one} and {other}: {megabytes:.1f} MB through their tunnels")
    return outcome, takeover, mesh


def milliseconds(text: str) -> float:
    """A finite number of the command line that is not negative."""
    if not 0 <= (found := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text}; wanted 0 or more")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run it once; returns the exit status."""
    parser = parser_of("lab.links.scenario", __doc__)
    help_ = "added between two gateways"
    parser.add_argument("--latency", type=milliseconds, default=0, metavar="MILLISECONDS", help=help_)
    given = parser.parse_args(arguments)
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    return show(lambda folder, stack: play_linked(folder, stack, given.latency / 1000, record=given.record)[:2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
