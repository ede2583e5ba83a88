"""Members on one machine, linked by tunnels: each is built from its own plan alone, as on Azure.

| Namespace | Stands for |
| --- | --- |
| internet | the internet: a router that knows every gateway's public addresses |
| a member's network | its virtual network, with its security groups and the routes that its gateway has learned |
| a subnet | the hosts in it: stand-ins that listen where load balancers do |
| a gateway's instance | one of two virtual machines of the VPN gateway: BGP, and routes into tunnels |
| a tunnel's end | a part of the instance with its public address: IKEv2, and a device, up while the tunnel is |
"""

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from lab.banks.process import until
from lab.links.bgp import BGPD, ZEBRA, Frr, Neighbor, Speaker
from lab.links.ike import CHARON, SWANCTL, Association, Charon, TunnelEnd
from lab.links.nsg import ruleset
from lab.links.plans import Half, Instance, MemberPlan, PlannedSubnet
from lab.namespaces import Namespace

_INSIDE, _OUTSIDE = "inside", "outside"
_INTO_TUNNEL, _OUT_OF_TUNNEL, _FIRST_TUNNEL = 100, 101, 200
"""Routing tables."""
_INSIDE_MTU = 1400
"""MTU of a tunnel: the rest of a packet is IPsec's overhead."""
_DIAL_SECONDS = 3
_UP_SECONDS = 180
"""Longest time until a tunnel, its BGP session or its route is up: a session is tried again after a minute."""


class Tunnel:
    """One side's end of a tunnel."""

    def __init__(self, instance: "RunningInstance", half: Half, far: Instance, number: int) -> None:
        name = f"{instance.namespace.name}-to-{far.public_ip}"
        self.half, self.far = half, far
        self.namespace = Namespace(name)
        folder = instance.folder / str(far.public_ip)
        folder.mkdir()
        outside, _ = instance.namespace.connect(f"out{number}", self.namespace, _OUTSIDE)
        inside, into = instance.namespace.connect(f"in{number}", self.namespace, _INSIDE)
        self._public = instance.plan.public_ip
        self.namespace.ip(
            f"addr add {self._public}/32 dev lo",
            f"route add default via {outside} dev {_OUTSIDE}",
            f"link set {_INSIDE} mtu {_INSIDE_MTU} down",
            # Once the tunnel is up, the daemon would send all packets into it, its own too.
            f"rule add priority 1 from {self._public} lookup main",
            f"rule add priority 2 iif {_INSIDE} lookup {_INTO_TUNNEL}",
            f"rule add priority 3 iif ipsec0 lookup {_OUT_OF_TUNNEL}",
        )
        back = f"ip route replace default via {inside} dev {_INSIDE} table {_OUT_OF_TUNNEL}"
        self._charon = Charon(
            self.namespace,
            folder,
            self._end,
            f"case $PLUTO_VERB in\n"
            f"up-client) ip link set {_INSIDE} up && {back};;\n"
            f"down-client) ip link set {_INSIDE} down;;\n"
            "esac\n",
        )
        self.namespace.ip(f"route add default dev ipsec0 table {_INTO_TUNNEL}")
        # Packets from the far end's public address belong to this tunnel.
        instance.namespace.ip(
            f"link set in{number} mtu {_INSIDE_MTU}",
            f"route add default via {outside + 1} dev out{number} table {_FIRST_TUNNEL + number}",
            f"rule add from {far.public_ip} iif {_OUTSIDE} lookup {_FIRST_TUNNEL + number}",
        )
        self.way = f"via {into} dev in{number}"
        """The instance's route into the tunnel."""

    @property
    def public_ips(self) -> frozenset[IPv4Address]:
        """The public addresses of both ends."""
        return frozenset((self._public, self.far.public_ip))

    @property
    def association(self) -> Association | None:
        """The established tunnel; None if there is none."""
        return self._charon.association

    @property
    def received(self) -> int:
        """Number of bytes received through it on this side."""
        (device,) = json.loads(self.namespace.run("ip", "-json", "-statistics", "link", "show", "dev", "ipsec0"))
        return int(device["stats64"]["rx"]["bytes"])

    def initiate(self) -> None:
        """Try to establish the tunnel."""
        self._charon.initiate()

    def renew(self) -> None:
        """Renew the tunnel's keys."""
        self._charon.renew()

    def take_over(self, half: Half) -> None:
        """Apply its half of the link; after a change, an established tunnel ends and is tried again."""
        if half != self.half:
            self.half = half
            self._charon.apply(self._end)
            self._charon.initiate()

    @property
    def _end(self) -> TunnelEnd:
        half = self.half
        return TunnelEnd(self._public, self.far.public_ip, half.key, half.policy, half.dead_peer_seconds)


class RunningInstance:
    """One instance of a member's VPN gateway."""

    def __init__(self, mesh: "Mesh", member: "RunningMember", place: int) -> None:
        self.plan = member.plan.instances[place]
        self.folder: Path = member.folder / f"instance-{place}"
        self.folder.mkdir()
        self.namespace: Namespace = Namespace(f"{member.plan.name}-{place}")
        for scope in ("all", "default"):
            # A tunnel that is down carries nothing, as if its routes were withdrawn.
            self.namespace.set(f"conf/{scope}/ignore_routes_with_linkdown", 1)
        self._internet, self._network, self._device = mesh.internet, member.namespace, f"gateway{place}"
        internet, _ = mesh.internet.connect(self.namespace.name, self.namespace, _OUTSIDE)
        network, ours = member.namespace.connect(self._device, self.namespace, "network")
        self.way = f"nexthop via {ours} dev {self._device}"
        """The member network's route to the instance."""
        mesh.internet.ip(f"route add {self.plan.public_ip} via {internet + 1}")
        member.namespace.ip(f"route add {self.plan.bgp_ip} via {ours}")
        self.namespace.ip(
            f"addr add {self.plan.bgp_ip}/32 dev lo",
            f"route add {member.plan.space} via {network}",
            f"route add default via {internet}",
            f"route add blackhole {self.plan.public_ip}",
        )
        numbers = count()
        self.tunnels = [
            Tunnel(self, half, far, next(numbers)) for half in member.plan.halves for far in half.far_ends
        ]
        self._route()
        colleague = member.plan.instances[1 - place]
        self.frr = Frr(
            self.namespace,
            self.folder,
            Speaker(
                self.plan.bgp_ip,
                member.plan.asn,
                member.plan.space,
                (
                    Neighbor(member.bgp_ip, member.plan.asn),
                    Neighbor(colleague.bgp_ip, member.plan.asn),
                    *(Neighbor(each.far.bgp_ip, each.half.asn) for each in self.tunnels if each.half.asn is not None),
                ),
            ),
        )

    def _route(self) -> None:
        """The static routes: to each BGP peer, and to the networks of members without BGP."""
        spaces: dict[IPv4Network, list[str]] = {}
        for each in self.tunnels:
            if each.half.space is None:
                self.namespace.ip(f"route add {each.far.bgp_ip} {each.way}")
            else:
                spaces.setdefault(each.half.space, []).append(f"nexthop {each.way}")
        for space, ways in spaces.items():
            self.namespace.ip(f"route add {space} {' '.join(ways)}")

    def end(self) -> None:
        """End the instance at once."""
        # The kernel removes a namespace and its cables asynchronously.
        self._internet.ip(f"link delete {self.namespace.name}")
        self._network.ip(f"link delete {self._device}")
        for each in self.tunnels:
            each.namespace.end()
        self.namespace.end()
        shutil.rmtree(self.folder)


class Hosts:
    """The hosts of a subnet: stand-ins answer with the member's name where load balancers listen."""

    def __init__(self, member: "RunningMember", subnet: PlannedSubnet, *, stand_ins: bool) -> None:
        self.namespace = Namespace(f"{member.plan.name}-{subnet.name}")
        self.prefix = subnet.prefix
        self.address = subnet.prefix[10]
        network, ours = member.namespace.connect(subnet.name, self.namespace, "network")
        addresses = {self.address, *(address for address, _ in subnet.listeners)}
        self.namespace.ip(*(f"addr add {each}/32 dev lo" for each in addresses), f"route add default via {network}")
        member.namespace.ip(f"route add {subnet.prefix} via {ours}")
        self._listening = ExitStack()
        for address, port in subnet.listeners if stand_ins else ():
            self._listen(str(address), port, member.plan.name.encode())

    def _listen(self, address: str, port: int, answer: bytes) -> None:
        with self.namespace.entered():
            server = self._listening.enter_context(socket.create_server((address, port)))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()

    def end(self) -> None:
        """Stop listening."""
        self._listening.close()
        self.namespace.end()


def dial(namespace: Namespace, source: IPv4Address, address: IPv4Address, port: int) -> str | None:
    """The name of the member that answers at an address; None if none does."""
    with namespace.entered():
        dialling = socket.socket()
    with dialling:
        dialling.settimeout(_DIAL_SECONDS)
        dialling.bind((str(source), 0))
        try:
            dialling.connect((str(address), port))
            return dialling.recv(64).decode()
        except OSError:
            return None


class RunningMember:
    """A member's virtual network and its gateway."""

    def __init__(self, mesh: "Mesh", plan: MemberPlan, *, stand_ins: bool) -> None:
        self.plan, self._mesh = plan, mesh
        self.folder: Path = mesh.folder / plan.name
        self.folder.mkdir()
        self.namespace: Namespace = Namespace(plan.name)
        self.bgp_ip = plan.gateway_subnet[1]
        """Address at which its network gets the gateway's routes: Azure reserves a subnet's first address."""
        self.namespace.ip(f"addr add {self.bgp_ip}/32 dev lo")
        self.hosts = {each.name: Hosts(self, each, stand_ins=stand_ins) for each in plan.filtered}
        self.instances = [RunningInstance(mesh, self, place) for place in range(len(plan.instances))]
        self._route()
        colleagues = tuple(Neighbor(each.bgp_ip, plan.asn) for each in plan.instances)
        self._frr = Frr(
            self.namespace, self.folder, Speaker(self.bgp_ip, plan.asn, plan.space, colleagues, announces=False)
        )

    @property
    def tunnels(self) -> list[Tunnel]:
        """The gateway's ends of all tunnels."""
        return [tunnel for instance in self.instances for tunnel in instance.tunnels]

    def learned_routes(self) -> list[dict[str, Any]]:
        """The routes that its gateway has learned, as `az network vnet-gateway list-learned-routes` prints them."""
        return [route for instance in self.instances for route in instance.frr.learned_routes()]

    def filter(self) -> None:
        """Apply its security groups to connections from now on."""
        learned = {IPv4Network(each["network"]) for each in self.learned_routes()}
        spaces = {half.space for half in self.plan.halves if half.space}
        self.namespace.run(
            "nft", "--file", "-", text=ruleset(self.plan.filtered, {self.plan.space, *learned, *spaces})
        )

    def change(self, plan: MemberPlan) -> None:
        """Apply the halves of links of a changed plan."""
        halves = {far.public_ip: half for half in plan.halves for far in half.far_ends}
        for each in self.tunnels:
            each.take_over(halves[each.far.public_ip])
        self.plan = plan

    @contextmanager
    def without_an_instance(self) -> Iterator[None]:
        """The gateway's first instance fails like its host; after the block it starts again, with all its tunnels.

        Only one instance of a mesh is lost at a time: the tunnels of one that starts need the others.

        Raises:
            TimeoutError: a tunnel or a BGP session does not come up again.
        """
        with self._mesh.one_lost:
            self.instances[0].end()
            try:
                yield
            finally:
                self.instances[0] = RunningInstance(self._mesh, self, 0)
                self._route()
            self._mesh.connect()

    def _route(self) -> None:
        """Routes to networks without BGP."""
        for space in {half.space for half in self.plan.halves if half.space}:
            self.namespace.ip(f"route replace {space} {' '.join(each.way for each in self.instances)}")

    def end(self) -> None:
        """End the member's network."""
        for instance in self.instances:
            instance.end()
        for hosts in self.hosts.values():
            hosts.end()
        self.namespace.end()


class Mesh:
    """Linked members."""

    def __init__(self, plans: Iterable[MemberPlan], *, stand_ins: bool = True) -> None:
        """Create all networks.

        Args:
            plans: the members'.
            stand_ins: whether stand-ins listen at their load balancers' addresses.
        """
        self._ending: ExitStack = ExitStack()
        # A socket's path must be short, and accessible to FRR's user.
        self.folder = Path(self._ending.enter_context(TemporaryDirectory(prefix="links-")))
        self.folder.chmod(0o711)
        self.internet: Namespace = Namespace("internet")
        self._ending.callback(self.internet.end)
        self.one_lost: threading.Lock = threading.Lock()
        self.members: dict[str, RunningMember] = {}
        for plan in plans:
            member = self.members[plan.name] = RunningMember(self, plan, stand_ins=stand_ins)
            self._ending.callback(member.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        # Without it an error of the end would hide this one.
        self._ending.__exit__(*error)

    @property
    def tunnels(self) -> list[Tunnel]:
        """Both ends of all tunnels."""
        return [tunnel for member in self.members.values() for tunnel in member.tunnels]

    def connect(self) -> None:
        """Establish all tunnels, and wait for each BGP session and for the route that it brings.

        Raises:
            TimeoutError: one does not come up.
        """
        for each in self.tunnels:
            if each.association is None:
                each.initiate()
        for each in self.tunnels:
            until(partial(getattr, each, "association"), _UP_SECONDS, each.namespace.name)
        instances = [instance for member in self.members.values() for instance in member.instances]
        for instance in instances:
            until(instance.frr.is_complete, _UP_SECONDS, f"{instance.namespace.name}: BGP")
        # A renewed session had routes before, and FRR delays new ones.
        for instance in instances:
            until(partial(self._is_known, instance), _UP_SECONDS, f"{instance.namespace.name}: routes")

    def carried(self) -> list[tuple[str, str, float]]:
        """Megabytes that the tunnels of each two members have carried until now, in both directions."""
        plans = [member.plan for member in self.members.values()]
        owners = {each.public_ip: plan.name for plan in plans for each in plan.instances}
        sums: dict[tuple[str, ...], int] = {}
        for each in self.tunnels:
            pair = tuple(sorted(owners[end] for end in each.public_ips))
            sums[pair] = sums.get(pair, 0) + each.received
        return [(one, other, received / 1e6) for (one, other), received in sorted(sums.items())]

    def _is_known(self, instance: RunningInstance) -> bool:
        """Whether it has learned each peer's network from the peer itself, and not only over a third member."""
        learned = {(each["sourcePeer"], each["network"]) for each in instance.frr.learned_routes()}
        ends = [(str(each.far.bgp_ip), each.half.asn) for each in instance.tunnels]
        spaces = {member.plan.asn: str(member.plan.space) for member in self.members.values()}
        return learned >= {(end, spaces[asn]) for end, asn in ends if asn is not None}


def missing() -> str | None:
    """The prerequisite that this machine lacks, if any."""
    if os.geteuid() != 0:
        return "not root, who alone makes network namespaces"
    programs = ("ip", "nft", "nsenter", "setpriv", "vtysh")
    lacking = [each for each in programs if not shutil.which(each)]
    lacking += [str(each) for each in (CHARON, SWANCTL, ZEBRA, BGPD, Path("/dev/net/tun")) if not each.exists()]
    return f"no {', '.join(lacking)} here; wanted strongSwan and FRR" if lacking else None
