"""An offline Azure on this machine, as strict as documented facts allow: the core of both fronts.

It checks, creates, reads, updates and deletes resources of several accounts, optionally stored in one file. Its
rules are in `rules.py`, the names of types in `arm.py`. It stores no secret: only a digest of each secret input.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from lab.azure import arm, rules
from lab.azure.rules import AzureError, Resource

_NAMESPACE = UUID("7f0b7f4e-7c7c-5a5e-9c39-4d8f6c1d2b10")
_SUFFIX_CHARACTERS = 8
_RANDOM = "random:"

# What Azure returns of a gateway whose inputs state nothing else.
_STATED = {
    "gatewayType": "Vpn",
    "vpnType": "RouteBased",
    "sku": {"name": "VpnGw1AZ", "tier": "VpnGw1AZ"},
    "provisioningState": "Succeeded",
}

# Inputs that Azure accepts but never returns.
_WRITE_ONLY = {
    "network:VirtualNetworkGatewayConnection": ("sharedKey", "authorizationKey"),
    "keyvault:Secret": ("properties.value",),
    "dbforpostgresql:Server": ("administratorLoginPassword",),
}


@dataclass(frozen=True)
class Account:
    """A member's subscription, its Entra tenant, and the principal that deploys there."""

    tenant_id: str
    subscription_id: str
    deployer_id: str

    @staticmethod
    def of(member: str, organization: str) -> "Account":
        """A made-up account, always the same for these names.

        Args:
            member: each member has a separate subscription.
            organization: members of one organisation share its tenant and its deployer.
        """
        return Account(
            tenant_id=str(uuid5(_NAMESPACE, f"tenant {organization}")),
            subscription_id=str(uuid5(_NAMESPACE, f"member {member}")),
            deployer_id=str(uuid5(_NAMESPACE, f"deployer {organization}")),
        )


@dataclass
class OfflineAzure:
    """The resources of all accounts, by id. Each change is saved to the file, if any, before it is answered."""

    path: Path | None = None
    """The file with its state; None to keep the state in memory only."""
    resources: dict[str, Resource] = field(default_factory=dict)
    deployers: dict[str, str] = field(default_factory=dict)
    """The principal that deploys to each subscription."""
    soft_deleted: dict[str, str] = field(default_factory=dict)
    """Names of deleted vaults that are still blocked, with each vault's former id."""
    seconds: Callable[[str], float] = field(default=lambda _: 0.0, repr=False)
    """How many seconds the creation of a resource takes, by its type; simulated by sleeping."""

    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    """By subscription and resource name: the error with which each request about that resource is refused."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._busy: set[str] = set()
        self._version: tuple[int, int] | None = None
        self.read_file()

    def read_file(self) -> None:
        """Read the file again if another process has written it since."""
        with self._lock:
            if self.path is None or self._version == (version := self._version_of_file()):
                return
            state = json.loads(self.path.read_text(encoding="utf-8"))
            self.resources = {id_: Resource(**each) for id_, each in state["resources"].items()}
            self.deployers, self.soft_deleted = state["deployers"], state["softDeleted"]
            self.refused = state.get("refused", {})
            self._version = version

    def account(self, account: Account) -> "Subscription":
        """One account's view of this Azure: it creates resources in its own subscription."""
        with self._lock:
            self.deployers[account.subscription_id] = account.deployer_id
        return Subscription(self, account)

    @contextmanager
    def _changing(self, *parents: str) -> Iterator[None]:
        """Lock parents whose children Azure changes one request at a time; a concurrent request is refused."""
        with self._lock:
            if taken := self._busy.intersection(parents):
                raise AzureError(f"AnotherOperationInProgress: another operation on {taken.pop()} is in progress")
            self._busy.update(parents)
        try:
            yield
        finally:
            with self._lock:
                self._busy.difference_update(parents)

    def save(self) -> None:
        """Write the file, if there is one.

        Raises:
            AzureError: another process has written the file since it was read.
        """
        if self.path is None:
            return
        if self._version != self._version_of_file():
            raise AzureError(f"another run changed {self.path}; wanted one at a time")
        state = {
            "resources": {id_: vars(each) for id_, each in self.resources.items()},
            "deployers": self.deployers,
            "softDeleted": self.soft_deleted,
            "refused": self.refused,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
        temporary.replace(self.path)
        self._version = self._version_of_file()

    def _version_of_file(self) -> tuple[int, int] | None:
        if self.path is None or not self.path.exists():
            return None
        found = self.path.stat()
        return found.st_ino, found.st_mtime_ns


@dataclass(frozen=True)
class Subscription:
    """One account's view of the offline Azure: what its requests do."""

    azure: OfflineAzure
    account: Account

    @property
    def resources(self) -> Mapping[str, Resource]:
        """The resources of all accounts, by id."""
        return self.azure.resources

    def check(
        self,
        token: str,
        name: str,
        inputs: Mapping[str, Any],
        *,
        old: Mapping[str, Any] | None = None,
        seed: str = "",
    ) -> dict[str, Any]:
        """The inputs with the resource's name filled in: the name in `old`, otherwise an automatic name.

        Args:
            token: the resource's type, such as `azure-native:network:Subnet`.
            name: its logical name.
            inputs: what the program sets.
            old: the inputs of the existing resource.
            seed: changes the automatic name, for a replacement.

        Raises:
            AzureError: the type does not allow this name.
        """
        if token.startswith(_RANDOM):
            return dict(inputs)
        property_ = arm.name_property(token)
        checked = dict(inputs)
        if property_ and checked.get(property_) is None:
            stored = (old or {}).get(property_)
            checked[property_] = stored or self._automatic_name(token, name, seed)
        rules.check_inputs(token, name, checked)
        return checked

    def diff(self, token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, bool]:
        """The names of the inputs that differ, each with whether its change replaces the resource."""
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        return {key: rules.forces_replacement(token, key) for key in changed}

    def create(self, token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Create a resource from checked inputs.

        Returns:
            Its id, and its outputs: the inputs and the properties that Azure adds.

        Raises:
            AzureError: Azure would refuse the request.
        """
        if token.startswith(_RANDOM):
            return _random(token, f"{self.account.subscription_id} {name}", inputs)
        azure = self.azure
        resource_id = arm.resource_id(token, self.account.subscription_id, inputs)
        with azure._changing(*rules.exclusive_parents(token, resource_id)):
            with azure._lock:
                if resource_id.lower() in {id_.lower() for id_ in azure.resources}:
                    raise AzureError(f"{name}: cannot create already existing resource {resource_id}")
                self._refuse_as_requested(token, name)
                self._refuse_broken(token, name, resource_id, inputs)
            time.sleep(azure.seconds(arm.short_token(token)))
            with azure._lock:
                resource = Resource(
                    resource_id,
                    token,
                    self.account.subscription_id,
                    _without_secrets(token, inputs),
                    rules.initial_extra(token, inputs),
                    name,
                )
                rules.associate(azure.resources, resource)
                azure.resources[resource_id] = resource
                azure.save()
                return resource_id, self._outputs(resource, inputs)

    def read(self, resource_id: str, known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """A resource's present inputs and outputs; None if it does not exist.

        Args:
            resource_id: its id.
            known: inputs that the caller has; they replace the digests of the secrets that Azure never returns.
        """
        with self.azure._lock:
            resource = self.azure.resources.get(resource_id)
            if resource is None:
                return None
            inputs = _with_secrets(resource.token, resource.inputs, known)
            return inputs, self._outputs(resource, inputs)

    def update(self, token: str, name: str, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Change a resource in place; returns its outputs.

        Raises:
            AzureError: Azure would refuse the change, or the resource does not exist.
        """
        if token.startswith(_RANDOM):
            return _random(token, f"{self.account.subscription_id} {name}", inputs)[1]
        azure = self.azure
        with azure._changing(*rules.exclusive_parents(token, resource_id)), azure._lock:
            resource = azure.resources.get(resource_id)
            if resource is None:
                raise AzureError(f"{name}: {resource_id} is not there")
            self._refuse_as_requested(token, name)
            self._refuse_broken(token, name, resource_id, inputs)
            stored = _without_secrets(token, inputs)
            rules.keep_what_azure_ignores(token, resource, stored)
            resource.inputs = stored
            rules.roll(token, resource, inputs)
            rules.associate(azure.resources, resource)
            azure.save()
            return self._outputs(resource, inputs)

    def delete(self, token: str, name: str, resource_id: str) -> None:
        """Delete a resource and the resources below it; nothing happens if it does not exist.

        Raises:
            AzureError: Azure would refuse the deletion.
        """
        if token.startswith(_RANDOM):
            return
        azure = self.azure
        with azure._changing(*rules.exclusive_parents(token, resource_id)), azure._lock:
            resource = azure.resources.get(resource_id)
            if resource is None:
                return
            self._refuse_as_requested(token, name)
            rules.refuse_delete(azure.resources, name, resource)
            # Azure deletes the resources below it too. A vault's name stays blocked: it is only soft-deleted.
            for below in [id_ for id_ in azure.resources if id_ == resource_id or id_.startswith(f"{resource_id}/")]:
                gone = azure.resources.pop(below)
                if gone.short == "keyvault:Vault":
                    azure.soft_deleted[gone.inputs["vaultName"]] = below
            azure.save()

    def drift(self, called: str, path: str, value: Any) -> None:
        """Change a resource out of band, without Pulumi.

        Args:
            called: its logical name; `TYPE/NAME` if several resources have that name.
            path: the property, with dots, such as `sku.capacity` or `securityRules.0.access`.
            value: the property's new value.

        Raises:
            AzureError: there is no such resource or property, or there are several resources of that name.
        """
        with self.azure._lock:
            *steps, last = path.split(".")
            place: Any = self._one(called).inputs
            for step in steps:
                place = place[_key(place, step, path)]
            place[_key(place, last, path)] = value
            self.azure.save()

    def lose(self, called: str) -> None:
        """Delete a resource out of band, without Pulumi, even if it is in use.

        Raises:
            AzureError: there is no such resource, or there are several.
        """
        with self.azure._lock:
            del self.azure.resources[self._one(called).id]
            self.azure.save()

    def refuse(self, called: str, message: str) -> None:
        """Refuse each later request about a resource.

        Args:
            called: its logical name, or `TYPE/NAME`.
            message: the error; an empty message ends the refusals.
        """
        with self.azure._lock:
            refused = self.azure.refused.setdefault(self.account.subscription_id, {})
            if message:
                refused[called] = message
            else:
                refused.pop(called, None)
            self.azure.save()

    def _one(self, called: str) -> Resource:
        own = [
            (_called(each.token, each.logical_name), each)
            for each in self.azure.resources.values()
            if each.subscription_id == self.account.subscription_id
        ]
        found = [(names, each) for names, each in own if called in names]
        if len(found) == 1:
            return found[0][1]
        if found:
            raise AzureError(
                f"several are called {called}; wanted one of {', '.join(sorted(n for (_, n), _ in found))}"
            )
        near = get_close_matches(called, {name for (name, _), _ in own}, n=3, cutoff=0)
        raise AzureError(
            f"no resource is called {called}; wanted a logical name, such as {', '.join(near) or 'none'}"
        )

    def invoke(self, token: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """The result of a provider function.

        Raises:
            AzureError: the offline Azure does not implement the function, or Azure would refuse the request.
        """
        if token == "azure-native:authorization:getClientConfig":  # noqa: S105
            return {
                "clientId": self.account.deployer_id,
                "objectId": self.account.deployer_id,
                "subscriptionId": self.account.subscription_id,
                "tenantId": self.account.tenant_id,
            }
        if token == "azure-native:network:getVirtualNetworkGateway":  # noqa: S105
            return self._far_gateway(arguments)
        raise AzureError(f"the offline Azure has no function {token}")

    def _far_gateway(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A gateway as Azure returns it. In a subscription that is unknown here each one exists and is in order."""
        subscription = arguments.get("subscriptionId", self.account.subscription_id)
        wanted = arm.resource_id("network:VirtualNetworkGateway", subscription, arguments)
        if subscription not in self.azure.deployers:
            return {"id": wanted, **_STATED}

        def refusal(status: int, code: str, message: str) -> AzureError:
            # As the provider prints Azure's answer.
            return AzureError(f'request failed {wanted}: Status={status} Code="{code}" Message="{message}"')

        with self.azure._lock:
            if not rules.may_read(self.resources, self.azure.deployers, self.account.deployer_id, wanted):
                action = "Microsoft.Network/virtualNetworkGateways/read"
                raise refusal(403, "AuthorizationFailed", f"no authorization to perform action '{action}'")
            found = rules.with_id(self.resources, wanted)
            if found is None:
                raise refusal(404, "ResourceNotFound", f"The Resource '{wanted}' was not found.")
            return {**_STATED, **self._outputs(found, found.inputs), "id": found.id}

    @staticmethod
    def preview(inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs known before creation: the inputs, except those that Azure returns in another shape."""
        return {key: value for key, value in inputs.items() if key != "identity"}

    def _refuse_broken(self, token: str, name: str, resource_id: str, inputs: Mapping[str, Any]) -> None:
        situation = rules.Situation(
            resources=self.azure.resources,
            deployers=self.azure.deployers,
            soft_deleted=self.azure.soft_deleted,
            subscription_id=self.account.subscription_id,
            resource_id=resource_id,
            token=arm.short_token(token),
            inputs=inputs,
        )
        rules.refuse_broken(situation, name)

    def _refuse_as_requested(self, token: str, name: str) -> None:
        refused = self.azure.refused.get(self.account.subscription_id, {})
        for called in _called(token, name):
            if called in refused:
                raise AzureError(f"{name}: {refused[called]}")

    def _automatic_name(self, token: str, name: str, seed: str) -> str:
        """A free name: no resource has it, and no soft-deleted vault."""
        with self.azure._lock:
            taken = {id_.rsplit("/", 1)[-1] for id_ in self.azure.resources} | self.azure.soft_deleted.keys()
        made_of = f"{self.account.subscription_id} {token} {name} {seed}"
        names = (_made_up_name(token, name, f"{made_of} {attempt}") for attempt in count())
        return next(each for each in names if each not in taken)

    def _outputs(self, resource: Resource, inputs: Mapping[str, Any]) -> dict[str, Any]:
        property_ = arm.name_property(resource.token)
        outputs = {**inputs, "name": inputs[property_]} if property_ else dict(inputs)
        computed = _COMPUTED.get(arm.short_token(resource.token))
        return outputs | computed(self, resource, outputs) if computed else outputs


def _called(token: str, name: str) -> tuple[str, str]:
    """The names by which commands refer to a resource: its logical name, and the name with its type."""
    return name, f"{arm.short_token(token).split(':')[1]}/{name}"


def _key(place: Any, step: str, path: str) -> Any:
    """One step of a property's path: an existing key of an object, or an index of a list."""
    if isinstance(place, dict) and step in place:
        return step
    if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
        return int(step)
    there = "nothing below it"
    if isinstance(place, dict):
        there = f"one of {', '.join(place)}"
    elif isinstance(place, list):
        there = f"0 to {len(place) - 1}"
    raise AzureError(f"{path}: no {step}; wanted {there}")


def _made_up_name(token: str, name: str, made_of: str) -> str:
    if arm.named_by_guid(token):
        return str(uuid5(_NAMESPACE, made_of))
    return f"{name}{hashlib.sha256(made_of.encode()).hexdigest()[:_SUFFIX_CHARACTERS]}"


def digest(value: object) -> str:
    """The SHA-256 that is stored in place of a secret."""
    return f"sha256:{hashlib.sha256(str(value).encode()).hexdigest()}"


def _without_secrets(token: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return _replaced(token, inputs, lambda _, value: digest(value))


def _with_secrets(token: str, stored: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    def put_back(path: str, value: Any) -> Any:
        secret: Any = known
        for step in path.split("."):
            secret = (secret or {}).get(step)
        return secret if secret is not None and digest(secret) == value else value

    return _replaced(token, stored, put_back)


def _replaced(token: str, inputs: Mapping[str, Any], replace: Callable[[str, Any], Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(inputs))
    for path in _WRITE_ONLY.get(arm.short_token(token), ()):
        *steps, last = path.split(".")
        place = copy
        for step in steps:
            place = place.get(step) or {}
        if place.get(last) is not None:
            place[last] = replace(path, place[last])
    return copy


def _random(token: str, seed: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and outputs of a `random` resource, which look random but are the same in each run."""
    raw = hashlib.sha512(f"{seed} {sorted((inputs.get('keepers') or {}).items())}".encode()).digest()
    match token.rsplit(":", 1)[1]:
        case "RandomBytes":
            made = raw[: int(inputs["length"])]
            return "none", {**inputs, "base64": base64.b64encode(made).decode(), "hex": made.hex()}
        case "RandomString":
            return (text := raw.hex()[: int(inputs["length"])]), {**inputs, "result": text}
        case "RandomPassword":
            text = raw.hex()[: int(inputs["length"])]
            return "none", {**inputs, "result": text, "bcryptHash": digest(text)}
        case "RandomUuid":
            return (text := str(UUID(bytes=raw[:16], version=4))), {**inputs, "result": text}
        case kind:
            raise AzureError(f"the offline Azure has no random {kind}")


def _public_address(resource_id: str) -> str:
    # From the blocks that RFC 5737 reserves for documentation.
    made_of = hashlib.sha256(resource_id.encode()).digest()
    block = ("192.0.2", "198.51.100", "203.0.113")[made_of[0] % 3]
    return f"{block}.{1 + made_of[1] % 254}"


def _gateway(subscription: Subscription, resource: Resource, outputs: Mapping[str, Any]) -> dict[str, Any]:
    if outputs.get("gatewayType") != "Vpn":
        return {}
    resources = subscription.resources
    instances = []
    for place, configuration in enumerate(outputs["ipConfigurations"]):
        block = ip_network(resources[configuration["subnet"]["id"]].inputs["addressPrefix"])
        instances.append(
            {
                "ipconfigurationId": f"{resource.id}/ipConfigurations/{configuration['name']}",
                # Azure gives the gateway's instances the fifth and sixth address of their subnet.
                "defaultBgpIpAddresses": [str(block[4 + place])],
                "customBgpIpAddresses": [],
                "tunnelIpAddresses": [_public_address(configuration["publicIPAddress"]["id"])],
            }
        )
    return {"bgpSettings": {**(outputs.get("bgpSettings") or {}), "bgpPeeringAddresses": instances}}


def _connection(subscription: Subscription, resource: Resource, _: Mapping[str, Any]) -> dict[str, Any]:
    return {"connectionStatus": rules.connection_status(subscription.resources, resource, _public_address)}


def _principal(subscription: Subscription, resource: Resource, _: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "principalId": str(uuid5(_NAMESPACE, f"principal {resource.id}")),
        "clientId": str(uuid5(_NAMESPACE, f"client {resource.id}")),
        "tenantId": subscription.account.tenant_id,
    }


def _system_identity(subscription: Subscription, resource: Resource, outputs: Mapping[str, Any]) -> dict[str, Any]:
    if not outputs.get("identity"):
        return {}
    principal = _principal(subscription, resource, outputs)
    return {"identity": {**outputs["identity"], **{key: principal[key] for key in ("principalId", "tenantId")}}}


_COMPUTED: dict[str, Callable[[Subscription, Resource, Mapping[str, Any]], dict[str, Any]]] = {
    "authorization:PolicyAssignment": _system_identity,
    "network:PublicIPAddress": lambda _, resource, __: {"ipAddress": _public_address(resource.id)},
    "network:VirtualNetworkGateway": _gateway,
    "network:VirtualNetworkGatewayConnection": _connection,
    "managedidentity:UserAssignedIdentity": _principal,
    "keyvault:Vault": lambda _, __, outputs: {
        "properties": {**outputs["properties"], "vaultUri": f"https://{outputs['name']}.vault.azure.net/"}
    },
    "dbforpostgresql:Server": lambda _, __, outputs: {
        "fullyQualifiedDomainName": f"{outputs['name']}.postgres.database.azure.com"
    },
    "operationalinsights:Workspace": lambda _, resource, __: {"customerId": str(uuid5(_NAMESPACE, resource.id))},
    "applicationinsights:Component": lambda _, resource, __: {
        "connectionString": (
            f"InstrumentationKey={uuid5(_NAMESPACE, resource.id)};IngestionEndpoint=https://offline.invalid/"
        )
    },
    # The input is a list of ids, the output a map by id.
    "compute:VirtualMachineScaleSet": lambda _, __, outputs: {
        "identity": {
            **outputs["identity"],
            "userAssignedIdentities": {id_: {} for id_ in outputs["identity"]["userAssignedIdentities"]},
        }
    },
}
