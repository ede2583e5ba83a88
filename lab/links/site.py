"""A bank whose VMs have separate network namespaces, in the subnets of its plan."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import urlsplit

from typing_extensions import override

from lab.banks.site import BankSite, Host
from lab.links.mesh import Hosts, RunningMember
from lab.namespaces import Namespace

_FIRST_PLACE = 20
"""Host numbers of VMs in their subnet."""


class LinkedSite(BankSite):
    """The network of a member of a mesh."""

    def __init__(self, member: RunningMember) -> None:
        self._member, self._vms = member, dict[str, Host]()

    @property
    @override
    def space(self) -> IPv4Network:
        return self._member.plan.space

    @property
    @override
    def nodes(self) -> Host:
        return self._frontend(self._member.plan.card["networkInfoUrl"], "nodes")

    @property
    @override
    def authority(self) -> Host:
        return self._frontend(self._member.plan.card["authority"]["url"], "authority")

    @override
    def vm(self, number: int) -> Host:
        return self._vm("nodes", number)

    @override
    def authority_vm(self, number: int) -> Host:
        return self._vm("authority", number)

    @property
    @override
    def linked(self) -> bool:
        return True

    @override
    @contextmanager
    def without_a_gateway_instance(self) -> Iterator[None]:
        with self._member.without_an_instance():
            yield

    def _frontend(self, url: str, subnet: str) -> Host:
        return Host(str(urlsplit(url).hostname), self._member.hosts[subnet].namespace)

    def _vm(self, subnet: str, number: int) -> Host:
        name = f"{self._member.plan.name}-{subnet}-{number}"
        if name not in self._vms:
            self._vms[name] = _attached(self._member.hosts[subnet], number, name)
        return self._vms[name]

    def end(self) -> None:
        """End all VMs' namespaces."""
        for each in self._vms.values():
            if each.namespace:
                each.namespace.end()


def _attached(hosts: Hosts, number: int, name: str) -> Host:
    """A VM in a subnet, with only a default route."""
    namespace, address = Namespace(name), IPv4Address(hosts.prefix[_FIRST_PLACE + number])
    ours, theirs = hosts.namespace.connect(f"vm{number}", namespace, "eth0")
    namespace.ip(f"addr add {address}/32 dev lo", f"route add default via {ours} dev eth0 src {address}")
    hosts.namespace.ip(f"route add {address}/32 via {theirs} dev vm{number}")
    return Host(str(address), namespace)
