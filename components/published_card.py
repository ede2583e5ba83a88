"""The member's own card in its vault, for its agents to show to the peers' agents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, Output, ResourceOptions

from agent.vault import CARD
from components.vault import vault_secret


@dataclass(frozen=True, kw_only=True)
class PublishedCardArgs:
    """Inputs of `PublishedCard`."""

    resource_group_name: Input[str]
    """Required. Resource group of the vault."""
    vault_name: Input[str]
    """Required. Vault that the agents read."""
    card: Input[Mapping[str, Any]]
    """Required. The card as it is signed."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class PublishedCard(ComponentResource):
    """A component of its own, apart from `KeyStore`: the card waits for the gateway, 45 minutes, and no VM does."""

    def __init__(self, name: str, args: PublishedCardArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:PublishedCard", name, None, opts)
        vault_secret(
            f"{name}-secret",
            resource_group_name=args.resource_group_name,
            vault_name=args.vault_name,
            value=Output.json_dumps(args.card, sort_keys=True),
            secret_name=CARD,
            tags=args.tags,
            parent=self,
        )
        self.register_outputs({})
