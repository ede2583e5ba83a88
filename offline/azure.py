"""An Azure on this machine: it names resources and computes their outputs, as far as documented facts allow."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid5

from offline import arm

_NAMESPACE = UUID("7f0b7f4e-7c7c-5a5e-9c39-4d8f6c1d2b10")
_SUFFIX_CHARACTERS = 8


class AzureError(Exception):
    """Azure would refuse this: the message names the resource and the rule."""


@dataclass(frozen=True)
class Account:
    """Whose subscription it is."""

    tenant_id: str
    subscription_id: str

    @staticmethod
    def of(member: str, organization: str) -> "Account":
        """A made-up account: a subscription of its own for each member, a tenant for each organisation."""
        return Account(str(uuid5(_NAMESPACE, f"tenant {organization}")), str(uuid5(_NAMESPACE, f"member {member}")))


@dataclass
class OfflineAzure:
    """The resources of one account, by id."""

    account: Account
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create(self, token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Make a resource.

        Args:
            token: Pulumi's type, for example `azure-native:network:Subnet` or `random:index/randomBytes:RandomBytes`.
            name: the logical name, from which autonaming makes the physical one.
            inputs: its inputs in Azure's spelling.

        Returns:
            Its id, and its outputs: the inputs and what Azure adds.
        """
        if token.startswith("random:"):
            return _random(token, f"{self.account.subscription_id} {name}", inputs)
        named = self._named(token, name, inputs)
        resource_id = arm.resource_id(token, self.account.subscription_id, named)
        property_ = arm.name_property(token)
        outputs = {**named, "name": named[property_]} if property_ else dict(named)
        computed = _COMPUTED.get(arm.short_token(token))
        if computed:
            outputs |= computed(self, resource_id, outputs)
        self.resources[resource_id] = outputs
        return resource_id, outputs

    @staticmethod
    def preview(inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a resource before it is made: its inputs, but those that come back in another shape."""
        return {key: value for key, value in inputs.items() if key != "identity"}

    def invoke(self, token: str) -> dict[str, Any]:
        """Answer a provider function."""
        if token == "azure-native:authorization:getClientConfig":  # noqa: S105
            return {
                "clientId": str(uuid5(_NAMESPACE, "client")),
                "objectId": str(uuid5(_NAMESPACE, "object")),
                "subscriptionId": self.account.subscription_id,
                "tenantId": self.account.tenant_id,
            }
        raise AzureError(f"the offline Azure has no function {token}")

    def _named(self, token: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        property_ = arm.name_property(token)
        if property_ is None or inputs.get(property_) is not None:
            return dict(inputs)
        seed = f"{self.account.subscription_id} {token} {name}"
        if arm.named_by_guid(token):
            return {**inputs, property_: str(uuid5(_NAMESPACE, seed))}
        return {**inputs, property_: f"{name}{hashlib.sha256(seed.encode()).hexdigest()[:_SUFFIX_CHARACTERS]}"}


def _random(token: str, seed: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Stand-ins for the random provider: they look random, and are the same in each run."""
    raw = hashlib.sha512(f"{seed} {sorted((inputs.get('keepers') or {}).items())}".encode()).digest()
    match token.rsplit(":", 1)[1]:
        case "RandomBytes":
            made = raw[: int(inputs["length"])]
            return "none", {**inputs, "base64": base64.b64encode(made).decode(), "hex": made.hex()}
        case "RandomString":
            return (text := raw.hex()[: int(inputs["length"])]), {**inputs, "result": text}
        case "RandomUuid":
            return (text := str(UUID(bytes=raw[:16], version=4))), {**inputs, "result": text}
        case kind:
            raise AzureError(f"the offline Azure has no random {kind}")


def _address_of(resource_id: str) -> str:
    """A public address in TEST-NET-3 or its neighbours that are kept for documentation (RFC 5737)."""
    digest = hashlib.sha256(resource_id.encode()).digest()
    block = ("192.0.2", "198.51.100", "203.0.113")[digest[0] % 3]
    return f"{block}.{1 + digest[1] % 254}"


def _bgp_settings(azure: OfflineAzure, resource_id: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    if outputs.get("gatewayType") != "Vpn":
        return {}
    instances = []
    for place, configuration in enumerate(outputs["ipConfigurations"]):
        subnet = azure.resources.get(configuration["subnet"]["id"], {})
        address = azure.resources.get(configuration["publicIPAddress"]["id"], {})
        block = ip_network(subnet.get("addressPrefix", "10.0.0.0/27"))
        instances.append(
            {
                "ipconfigurationId": f"{resource_id}/ipConfigurations/{configuration['name']}",
                # Azure gives the gateway's instances the fifth and sixth address of their subnet.
                "defaultBgpIpAddresses": [str(block[4 + place])],
                "customBgpIpAddresses": [],
                "tunnelIpAddresses": [address.get("ipAddress", _address_of(f"{resource_id} {place}"))],
            }
        )
    return {"bgpSettings": {**(outputs.get("bgpSettings") or {}), "bgpPeeringAddresses": instances}}


def _principal(azure: OfflineAzure, resource_id: str, _: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "principalId": str(uuid5(_NAMESPACE, f"principal {resource_id}")),
        "clientId": str(uuid5(_NAMESPACE, f"client {resource_id}")),
        "tenantId": azure.account.tenant_id,
    }


_COMPUTED: dict[str, Callable[[OfflineAzure, str, Mapping[str, Any]], dict[str, Any]]] = {
    "network:PublicIPAddress": lambda _, id_, __: {"ipAddress": _address_of(id_)},
    "network:VirtualNetworkGateway": _bgp_settings,
    "managedidentity:UserAssignedIdentity": _principal,
    "keyvault:Vault": lambda _, __, outputs: {
        "properties": {**outputs["properties"], "vaultUri": f"https://{outputs['name']}.vault.azure.net/"}
    },
    "dbforpostgresql:Server": lambda _, __, outputs: {
        "fullyQualifiedDomainName": f"{outputs['name']}.postgres.database.azure.com"
    },
    "applicationinsights:Component": lambda _, id_, __: {
        "connectionString": f"InstrumentationKey={uuid5(_NAMESPACE, id_)};IngestionEndpoint=https://offline.invalid/"
    },
    # Goes in as a list of ids and comes back as a map of them.
    "compute:VirtualMachineScaleSet": lambda _, __, outputs: {
        "identity": {
            **outputs["identity"],
            "userAssignedIdentities": {id_: {} for id_ in outputs["identity"]["userAssignedIdentities"]},
        }
    },
}
