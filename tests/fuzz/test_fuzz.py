"""`make fuzz`: tries random mutations of each parser's input, for SECONDS in total."""

import os
import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import NAMES, Target, targets
from tests.fuzz.trial import attempt

SECONDS = float(os.environ.get("SECONDS", "300"))
"""The time for all targets together."""
SEED = int(os.environ.get("SEED", "0")) or random.randrange(10**9)
_BATCH = 200


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Target]]:
    with targets() as found:
        yield found


# Hypothesis warns of a large failing input, and the warning would replace the failure.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("name", NAMES)
def test_a_mutation_gives_a_value_or_a_documented_error(made: dict[str, Target], name: str) -> None:
    target, end, batch = made[name], time.monotonic() + SECONDS / len(NAMES), SEED
    print(f"{name}: SEED={SEED}")
    inputs = mutated([*target.seeds, *(path.read_bytes() for path in target.found)])
    tried = 0

    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(inputs)
    def trial(content: bytes) -> None:
        nonlocal tried
        tried += 1
        attempt(target, content)

    while time.monotonic() < end:
        seed(batch)(trial)()
        batch += 1
    print(f"{name}: {tried} inputs in {batch - SEED} batches")
