"""What a benchmark starts does what it measures."""

import pytest

from benchmarks import agent
from lab.banks import npm


@pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite")
def test_the_measured_agent_answers_and_takes_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_STARTS", 1)
    monkeypatch.setattr(agent, "_FRESH", 0)
    ((answered, leased, resident, proportional, private),) = agent._starts()
    assert 0 < answered <= leased, "it answers probes before it holds an identity"
    assert 20 < private <= proportional <= resident, "the memory is that of the agent's process"
