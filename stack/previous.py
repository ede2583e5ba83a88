"""Outputs of the member's last update that the next one needs: its card, and records of its peers' newest cards."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, Final

import pulumi
from pulumi.runtime import invoke_async
from pydantic import TypeAdapter, ValidationError

from contract.card import SeenCard
from contract.models import OpenModel, first_fault
from stack.outputs import (
    CARD_OUTPUT,
    CONNECTIONS_OUTPUT,
    LINKS_OUTPUT,
    MADE_WITH_OUTPUT,
    PEER_CARDS_OUTPUT,
    SERVER_OFFER_OUTPUT,
    SHARE_OUTPUT,
)
from stack.regions import ServerOffer
from stack.settings import HighAvailability

READ_STACK = "pulumi:pulumi:readStackOutputs"
"""Pulumi's function that reads a stack's outputs. Unlike a StackReference it registers nothing, and only raises."""

# The engine puts the first before the reason, Pulumi's mocks the second, and azure-native the third.
_WRAPPING: Final = re.compile(r"^(.*?returned an error: |invoke of \S+ failed: )(request failed \S+: )?", re.DOTALL)
_RULE: Final = re.compile(r"-{20,}")
_REASON_CHARACTERS: Final = 600


class MadeWith(OpenModel):
    """Settings of the last update that Azure, or the network, does not let change or fall."""

    subscription_id: str | None = None
    """None after an update of an older program."""
    soft_delete_days: int
    geo_redundant_backup: bool | None = None
    """None if the platform needs no database."""
    ca_generation: int | None = None
    """None if the member runs no network authority."""
    purge_protection: bool | None = None
    """None after an update of an older program."""
    high_availability: HighAvailability | None = None
    """None if the platform needs no database, and after an update of an older program."""
    zones: tuple[str, ...] | None = None
    """The region's availability zones when the member was made; None after an update of an older program."""
    pair: str | None = None
    """The paired region then; None if there was none."""


@dataclass(frozen=True)
class PreviousUpdate:
    """Outputs of the last update that the next one needs."""

    card: object = None
    """The member's own card as JSON; None before the first update."""
    server_offer: ServerOffer | None = None
    """The region's offer when the database server was created."""
    share_gib: int | None = None
    """Provisioned size of the ledger's share in GiB; None before the first update."""
    made_with: MadeWith | None = None
    """None before the first update, and after one of an older program."""
    peer_cards: Mapping[str, SeenCard] = field(default_factory=dict)
    """Record of the newest card of each present and former peer, by name."""
    links: Mapping[str, str] = field(default_factory=dict)
    """The kind of each link over VPN whose connections were made, by the peer's name."""


async def read_previous_update() -> PreviousUpdate:
    """Read the stack's own outputs, before any resource is registered.

    Raises:
        RunError: the outputs can't be read. With a counter that starts at 1 again, peers would refuse the card.
    """
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    try:
        outputs: Mapping[str, Any] = (await invoke_async(READ_STACK, {"name": stack}))["outputs"]
        seen = TypeAdapter(dict[str, SeenCard]).validate_python(outputs.get(PEER_CARDS_OUTPUT, {}))
        offer = TypeAdapter(ServerOffer | None).validate_python(outputs.get(SERVER_OFFER_OUTPUT))
        share = TypeAdapter(int | None).validate_python(outputs.get(SHARE_OUTPUT))
        kinds = TypeAdapter(dict[str, str]).validate_python(outputs.get(LINKS_OUTPUT, {}))
        connections = TypeAdapter(dict[str, list[Any]]).validate_python(outputs.get(CONNECTIONS_OUTPUT, {}))
        made = TypeAdapter(MadeWith | None).validate_python(outputs.get(MADE_WITH_OUTPUT))
    except ValidationError as error:
        message = f"this member's stack {stack}: its outputs: {first_fault(error)}; wanted what `up` wrote"
    except Exception as error:
        said = f"its outputs can't be read ({reason(error)}); wanted those of the last update"
        message = f"this member's stack {stack}: {said}"
    else:
        # The name of a connection that failed is unknown, if the update continued after the error.
        whole = {peer for peer, names in connections.items() if all(isinstance(each, str) for each in names)}
        links = {peer: kind for peer, kind in kinds.items() if peer in whole}
        return PreviousUpdate(outputs.get(CARD_OUTPUT), offer, share, made, seen, links)
    raise pulumi.RunError(message)


def reason(error: Exception) -> str:
    """Why a function of Pulumi failed, on one line: the start of its message, since Azure's answers end in JSON."""
    return shorten(_RULE.sub(" ", _WRAPPING.sub("", str(error))), _REASON_CHARACTERS, placeholder=" ...")
