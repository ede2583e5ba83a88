"""A BGP speaker, by FRR, as an Azure VPN gateway would be one."""

import json
import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from lab.banks.process import until
from lab.namespaces import Namespace

ZEBRA, BGPD = Path("/usr/lib/frr/zebra"), Path("/usr/lib/frr/bgpd")
KEEPALIVE_SECONDS, HOLD_SECONDS = 60, 180
"""Azure's own, learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq: nobody can change them."""
_FAMILY = "address-family ipv4 unicast"


@dataclass(frozen=True)
class Neighbor:
    """A BGP peer."""

    address: IPv4Address
    asn: int


@dataclass(frozen=True)
class Speaker:
    """A speaker's configuration."""

    address: IPv4Address
    asn: int
    space: IPv4Network
    """The member's network; the router accepts no route to it."""
    neighbors: tuple[Neighbor, ...]
    announces: bool = True
    """Whether it announces its network."""

    def configuration(self) -> str:
        """The configuration of FRR.

        As documented in "BGP and routing" of learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq: a gateway
        announces its network and the routes that it learned, accepts no route to a part of its own network, and
        spreads traffic over equal paths.
        """
        neighbors = [line for each in self.neighbors for line in self._neighbor(each)]
        return "\n".join(
            [
                f"ip prefix-list foreign deny {self.space} le 32",
                "ip prefix-list foreign permit any",
                f"router bgp {self.asn}",
                f" bgp router-id {self.address}",
                " no bgp ebgp-requires-policy",
                " no bgp network import-check",
                f" timers bgp {KEEPALIVE_SECONDS} {HOLD_SECONDS}",
                *neighbors,
                f" {_FAMILY}",
                *([f"  network {self.space}"] if self.announces else []),
                "  maximum-paths 8",
                "  maximum-paths ibgp 8",
                *(f"  neighbor {each.address} prefix-list foreign in" for each in self.neighbors),
                *(f"  neighbor {each.address} next-hop-self" for each in self.neighbors if each.asn == self.asn),
                "",
            ]
        )

    def _neighbor(self, neighbor: Neighbor) -> list[str]:
        prefix = f" neighbor {neighbor.address}"
        outside = neighbor.asn != self.asn
        return [
            f"{prefix} remote-as {neighbor.asn}",
            f"{prefix} update-source {self.address}",
            # A session that can't be opened yet is tried again soon; after that only Azure's timers count.
            f"{prefix} timers connect 1",
            f"{prefix} advertisement-interval 0",
            *([f"{prefix} ebgp-multihop"] if outside else []),
        ]


class Frr:
    """FRR's daemons in a namespace."""

    def __init__(self, namespace: Namespace, folder: Path, speaker: Speaker) -> None:
        """Start them.

        Args:
            namespace: where.
            folder: their own.
            speaker: what they know.
        """
        self._namespace, self._folder, self._speaker = namespace, folder, speaker
        (folder / "bgpd.conf").write_text(speaker.configuration(), encoding="ascii")
        # The kernel would forget such objects with a tunnel that goes down, and FRR not put them back.
        (folder / "zebra.conf").write_text("no zebra nexthop kernel enable\n", encoding="ascii")
        # The daemons run as user `frr`.
        shutil.chown(folder, "frr", "frr")
        for program in (ZEBRA, BGPD):
            files = f"--config_file {folder}/{program.name}.conf --pid_file {folder}/{program.name}.pid"
            sockets = f"--vty_socket {folder} --socket {folder}/zserv --log stdout"
            namespace.start(str(program), *files.split(), *sockets.split(), log=folder / "frr.log")
            until((folder / f"{program.name}.vty").exists, 20, f"{namespace.name}: {program.name}")

    def announce(self, network: IPv4Network) -> None:
        """Announce one more network, its member's or not."""
        self._set(_FAMILY, f"network {network}")

    def withdraw(self, network: IPv4Network) -> None:
        """Announce it no longer."""
        self._set(_FAMILY, f"no network {network}")

    def end_session(self, neighbor: IPv4Address) -> None:
        """End the session with a neighbor, and open no further one."""
        self._set(f"neighbor {neighbor} shutdown")

    def allow_session(self, neighbor: IPv4Address) -> None:
        """Open the session with that neighbor again."""
        self._set(f"no neighbor {neighbor} shutdown")

    def _set(self, *lines: str) -> None:
        self._say("configure terminal", f"router bgp {self._speaker.asn}", *lines)

    def is_complete(self) -> bool:
        """Whether each session is established."""
        peers = json.loads(self._say("show bgp ipv4 unicast summary json")).get("peers", {})
        return all(peer["state"] == "Established" for peer in peers.values())

    def learned_routes(self) -> list[dict[str, Any]]:
        """All routes, as `az network vnet-gateway list-learned-routes` prints them."""
        table = json.loads(self._say("show bgp ipv4 unicast json"))["routes"]
        return [self._route(network, path) for network, paths in table.items() for path in paths]

    def _route(self, network: str, path: dict[str, Any]) -> dict[str, Any]:
        local = path["peerId"] == "(unspec)"
        origin = "Network" if local else "IBgp" if path["pathFrom"] == "internal" else "EBgp"
        return {
            "asPath": path["path"].replace(" ", "-"),
            "localAddress": str(self._speaker.address),
            "network": network,
            "nextHop": path["nexthops"][0]["ip"],
            "origin": origin,
            "sourcePeer": str(self._speaker.address) if local else path["peerId"],
            "weight": path["weight"],
        }

    def _say(self, *commands: str) -> str:
        """The answer of `vtysh` to commands."""
        each = [part for command in commands for part in ("-c", command)]
        return self._namespace.run("vtysh", "--vty_socket", str(self._folder), *each)
