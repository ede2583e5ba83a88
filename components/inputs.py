"""Inputs that several components share, as fields of their Args."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import CustomTimeouts, Input

GATEWAY_TIMEOUTS = CustomTimeouts(create="2h", update="2h", delete="2h")
"""Gateways and their connections take 30 to 45 minutes, sometimes more:
learn.microsoft.com/azure/vpn-gateway/tutorial-create-gateway-portal."""

_ZONE_TAG = re.compile("[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Resource group, region and tags of a component's resources."""

    resource_group_name: Input[str]
    """Required. Resource group of all children."""
    location: Input[str]
    """Required. Region of all children."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""

    @property
    def zone_tags(self) -> Mapping[str, Input[str]]:
        """The tags that a private DNS zone and its links keep: Azure drops others without an error.

        Source: learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations.
        """
        return {name: value for name, value in (self.tags or {}).items() if _ZONE_TAG.fullmatch(name)}


def protect_if(deletion_protection: bool) -> bool | None:
    """Option `protect` of a resource: None inherits, and False would override, what the component's caller stated."""
    return True if deletion_protection else None


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """Inputs shared by all stateful components: log destination and deletion protection."""

    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for resource logs; None sends none."""
    deletion_protection: bool = True
    """Optional. Whether Pulumi refuses to delete resources whose data can't be recovered; without it they are as
    protected as their component."""

    @property
    def protect(self) -> bool | None:
        """Option `protect` of such a resource."""
        return protect_if(self.deletion_protection)
