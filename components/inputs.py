"""Inputs that several components share, as fields of their Args."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import CustomTimeouts, Input

GATEWAY_TIMEOUTS = CustomTimeouts(create="2h", update="2h", delete="2h")
"""Gateways and their connections take 30 to 45 minutes, more in a busy region."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Resource group, region and tags of a component's resources."""

    resource_group_name: Input[str]
    """Required. Resource group of all children."""
    location: Input[str]
    """Required. Region of all children."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """Inputs shared by all stateful components: log destination and deletion protection."""

    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for resource logs; None sends none."""
    deletion_protection: bool = True
    """Optional. Whether Pulumi refuses to delete resources whose data can't be recovered."""
