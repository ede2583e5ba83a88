"""The network in which a bank's programs run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from typing_extensions import override

from lab.namespaces import Namespace

_NODES_FRONTEND, _AUTHORITY_FRONTEND, _FIRST_VM, _FIRST_AUTHORITY_VM = 254, 253, 10, 20


@dataclass(frozen=True)
class Host:
    """An address, and the network of a program there."""

    address: str
    namespace: Namespace | None = None
    """None: this machine's own network."""

    def command(self, *command: str) -> Sequence[str]:
        """The command that runs a program in that network."""
        return self.namespace.command(*command) if self.namespace else command

    def entered(self) -> AbstractContextManager[None]:
        """Move this thread to the host's network during the block: new sockets belong to it."""
        return self.namespace.entered() if self.namespace else nullcontext()


class BankSite(Protocol):
    """A bank's network."""

    @property
    def space(self) -> IPv4Network:
        """The bank's address range."""

    @property
    def nodes(self) -> Host:
        """The nodes' load balancer, which peers and applications connect to."""

    @property
    def authority(self) -> Host:
        """The load balancer of the network's authority."""

    def vm(self, number: int) -> Host:
        """A node VM, by its number from 1."""

    def authority_vm(self, number: int) -> Host:
        """A VM of the network's authority, by its number from 1."""

    @property
    def linked(self) -> bool:
        """Whether VPN gateways link the bank with the others."""

    def without_a_gateway_instance(self) -> AbstractContextManager[None]:
        """One of the two instances of the bank's VPN gateway is lost during the block.

        Raises:
            ValueError: no gateway links the bank.
        """


@dataclass(frozen=True)
class Loopback(BankSite):
    """A bank at this machine's loopback addresses 127.NUMBER.0.x."""

    number: int

    @property
    @override
    def space(self) -> IPv4Network:
        return IPv4Network(f"127.{self.number}.0.0/16")

    @property
    @override
    def nodes(self) -> Host:
        return self._host(_NODES_FRONTEND)

    @property
    @override
    def authority(self) -> Host:
        return self._host(_AUTHORITY_FRONTEND)

    @override
    def vm(self, number: int) -> Host:
        return self._host(_FIRST_VM + number)

    @override
    def authority_vm(self, number: int) -> Host:
        return self._host(_FIRST_AUTHORITY_VM + number)

    @property
    @override
    def linked(self) -> bool:
        return False

    @override
    def without_a_gateway_instance(self) -> AbstractContextManager[None]:
        raise ValueError(f"{self}: no gateway; wanted a bank that one links")

    def _host(self, last: int) -> Host:
        return Host(str(IPv4Address(f"127.{self.number}.0.{last}")))
