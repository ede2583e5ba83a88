"""The identities of a member: each ledger node's name and its ports."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from contract.platform import MAX_IDENTITIES, Platform, Role, Scope


@dataclass(frozen=True)
class Identity:
    """A ledger node of the member. It moves between VMs; its name and ports do not change."""

    index: int
    name: str
    legal_name: str
    role: Role
    ports: Mapping[str, int]
    """Numbers of its per-identity and local ports, by name."""


def identity_name(index: int) -> str:
    """The name of the identity at `index`: `node-1` at 0."""
    return f"node-{index + 1}"


def identities(
    platform: Platform,
    bank_legal_name: str,
    count: int,
    roles: Mapping[str, str] = MappingProxyType({}),
    legal_names: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Identity, ...]:
    """The identities of a member, numbered from 1.

    Args:
        platform: the ledger software.
        bank_legal_name: the bank's own legal name.
        count: number of identities.
        roles: roles by identity name; by default the platform's first.
        legal_names: legal names by identity name; by default `platform.node_legal_name`.

    Raises:
        ValueError: `count` is not within 1 to `MAX_IDENTITIES`, or there is no such role or identity.
    """
    if not 1 <= count <= MAX_IDENTITIES:
        raise ValueError(f"{count} identities; wanted 1 to {MAX_IDENTITIES}")
    names = [identity_name(index) for index in range(count)]
    for what, given in (("roles", roles), ("legal names", legal_names)):
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"{what} of {', '.join(unknown)}; wanted identities from {names[0]} to {names[-1]}")
    return tuple(
        Identity(
            index=index,
            name=name,
            legal_name=legal_names.get(name) or platform.node_legal_name(bank_legal_name, name),
            role=(role := platform.role(roles.get(name, platform.roles[0].name))),
            ports={port.name: port.base + index for port in role.ports if port.scope is not Scope.SHARED},
        )
        for index, name in enumerate(names)
    )
