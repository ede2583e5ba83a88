"""The gateways of new `vnet-to-vnet` links, looked up in Azure before any resource is registered."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import pulumi
from pulumi.runtime import invoke_async, is_dry_run

from contract.card import LinkKind, MembershipError, last_card
from contract.messages import one_line
from stack.peers import PeerMember, unlinkable
from stack.previous import PreviousUpdate, reason
from stack.settings import Settings

_READ_GATEWAY: Final = "azure-native:network:getVirtualNetworkGateway"
_NOT_FOUND: Final = "Status=404 "


@dataclass(frozen=True)
class _Flaw:
    """Why no connection to a gateway can be made."""

    text: str
    """The fault, and what was wanted."""
    certain: bool = True
    """False if the gateway could not be read, which another principal may be allowed to."""


async def check_gateways(settings: Settings, peers: Sequence[PeerMember], previous: PreviousUpdate) -> None:
    """Look up the peer's gateway of each `vnet-to-vnet` link that is made, replaced or redirected.

    Azure makes such a connection only if the gateway exists and the deploying principal may read it. No other link is
    looked up: what a peer does to its gateway later must not stop this member's updates.

    In a preview a gateway that can't be read is a warning, since another principal may preview than deploy.

    Raises:
        RunError: with one line for each gateway to which no connection can be made.
    """
    new = [place for place, peer in enumerate(peers) if _is_new(settings, peer, previous)]
    flaws = await asyncio.gather(*(_flaw(peers[place]) for place in new))
    mistakes = []
    for place, flaw in zip(new, flaws, strict=True):
        if flaw is None:
            continue
        peer = peers[place]
        line = one_line(f"peers[{place}] {peer.name}: its gateway.id is {peer.gateway.id}, {flaw.text}")
        if is_dry_run() and not flaw.certain:
            pulumi.log.warn(f"{line}; an update refuses this")
        else:
            mistakes.append(line)
    if mistakes:
        raise unlinkable(settings, MembershipError(*mistakes))


def _is_new(settings: Settings, peer: PeerMember, previous: PreviousUpdate) -> bool:
    """Whether the link is `vnet-to-vnet`, and not the one that the last update left."""
    if peer.link is not LinkKind.VNET_TO_VNET:
        return False
    if previous.links.get(peer.name) != peer.link or previous.peer_cards.get(peer.name) != peer.newest:
        return True
    own = last_card(previous.card)
    # Another key replaces the connection.
    return own is None or own.key_generations.link != settings.key_generations.link


async def _flaw(peer: PeerMember) -> _Flaw | None:
    _, _, subscription, _, group, *_, name = peer.gateway.id.split("/")
    # azure-native takes the subscription from the arguments before its own (PrepareAzureRESTIdAndQuery in crud.go). A
    # provider for each subscription would be a resource, registered before the check, and a process of its own.
    names = {"subscriptionId": subscription, "resourceGroupName": group, "virtualNetworkGatewayName": name}
    options = pulumi.InvokeOptions(version=version("pulumi-azure-native"))
    try:
        gateway = await invoke_async(_READ_GATEWAY, names, options)
    except Exception as error:
        said = reason(error)
        if _NOT_FOUND in said:
            return _Flaw(f"which does not exist ({said}); wanted the one of its newest card")
        return _Flaw(
            f"which can't be read ({said}); wanted the principal that deploys here in {peer.name}'s gatewayReaders, "
            f"or link: {LinkKind.IPSEC} on both sides",
            certain=False,
        )
    return next(_flaws(gateway), None)


def _flaws(gateway: Mapping[str, Any]) -> Iterator[_Flaw]:
    """Properties with which Azure makes no connection of ours.

    Sources: learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq: route-based; about-gateway-skus: Basic has no
    IPsec policy; Azure's error ReferencedResourceNotProvisioned. A gateway that is `Updating` will be ready.
    """
    for key, wanted in (("gatewayType", "Vpn"), ("vpnType", "RouteBased")):
        if gateway.get(key) != wanted:
            yield _Flaw(f"whose {key} is {gateway.get(key)}; wanted {wanted}")
    if (sku := gateway.get("sku", {}).get("name")) == "Basic":
        yield _Flaw(f"whose sku is {sku}; wanted one with an IPsec policy")
    if (state := gateway.get("provisioningState")) in ("Failed", "Deleting"):
        yield _Flaw(f"whose provisioningState is {state}; wanted Succeeded")
