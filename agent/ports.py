"""The agent's own listeners, next to those of the ledger platform."""

from ledger.platform import HEALTH_PATH, HEALTH_PORT, Audience, Listener, Probe, ProbeProtocol

__all__ = ["HEALTH_PATH", "HEALTH_PORT", "NETWORK_INFO", "NETWORK_INFO_PATH", "NETWORK_INFO_PORT"]

NETWORK_INFO_PORT = 8443
NETWORK_INFO_PATH = "/networkinfo"

NETWORK_INFO = Listener(
    "network-info",
    NETWORK_INFO_PORT,
    frozenset({Audience.PEERS}),
    # Every VM serves the same document, so any whose agent is alive will do.
    Probe(HEALTH_PORT, ProbeProtocol.HTTP, HEALTH_PATH),
)
