"""Faults while linked banks share records: `python -m lab.links.soak [SEED]`, for SOAK_SECONDS of the environment.

The history of `lab.banks.soak`, through the tunnels of `lab.links.scenario`; gateway instances are lost too.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from lab.banks import soak
from lab.banks.scenario import Scenario
from lab.links.mesh import missing
from lab.links.scenario import linked, linked_scenario


def _linked_banks(folder: Path, stack: ExitStack) -> Scenario:
    return linked_scenario(folder, stack, linked(stack))


if __name__ == "__main__":
    if reason := missing():
        sys.exit(f"error: {reason}")
    sys.exit(soak.main(sys.argv[1:], os.environ, _linked_banks))
