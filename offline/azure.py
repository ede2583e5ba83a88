"""An Azure on this machine, as strict as documented facts allow: the pure core of both fronts.

It checks, creates, reads, updates and deletes resources of several accounts, which may be kept in one file. Its
rules stand in `rules.py`, the names of types in `arm.py`. It holds no secret: of a secret input it keeps a digest.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from offline import arm, rules
from offline.rules import AzureError, Resource

_NAMESPACE = UUID("7f0b7f4e-7c7c-5a5e-9c39-4d8f6c1d2b10")
_SUFFIX_CHARACTERS = 8
_RANDOM = "random:"

# Inputs that Azure takes and never gives back.
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
        """A made-up account: a subscription for each member, tenant and deployer of its organisation."""
        return Account(
            tenant_id=str(uuid5(_NAMESPACE, f"tenant {organization}")),
            subscription_id=str(uuid5(_NAMESPACE, f"member {member}")),
            deployer_id=str(uuid5(_NAMESPACE, f"deployer {organization}")),
        )


@dataclass
class OfflineAzure:
    """The resources of all accounts, by id. A change is in the file, if there is one, before it is answered."""

    path: Path | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    deployers: dict[str, str] = field(default_factory=dict)
    """The principal that deploys to each subscription."""
    soft_deleted: dict[str, str] = field(default_factory=dict)
    """Names of deleted vaults that are still blocked, with the id each had."""
    seconds: Callable[[str], float] = field(default=lambda _: 0.0, repr=False)
    """How long a type takes to create, played by sleeping."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._busy: set[str] = set()
        if self.path and self.path.exists():
            state = json.loads(self.path.read_text(encoding="utf-8"))
            self.resources = {id_: Resource(**each) for id_, each in state["resources"].items()}
            self.deployers, self.soft_deleted = state["deployers"], state["softDeleted"]

    def account(self, account: Account) -> "Subscription":
        """One member's view: it creates in its own subscription."""
        with self._lock:
            self.deployers[account.subscription_id] = account.deployer_id
        return Subscription(self, account)

    @contextmanager
    def _changing(self, *parents: str) -> Iterator[None]:
        """Hold what Azure changes one request at a time; a second request meanwhile is refused."""
        with self._lock:
            if taken := self._busy.intersection(parents):
                raise AzureError(f"AnotherOperationInProgress: another operation on {taken.pop()} is in progress")
            self._busy.update(parents)
        try:
            yield
        finally:
            with self._lock:
                self._busy.difference_update(parents)

    def _save(self) -> None:
        if self.path is None:
            return
        state = {
            "resources": {id_: vars(each) for id_, each in self.resources.items()},
            "deployers": self.deployers,
            "softDeleted": self.soft_deleted,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
        temporary.replace(self.path)


@dataclass(frozen=True)
class Subscription:
    """One account's side of the offline Azure."""

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
        """The inputs with the resource's name filled in: that of `old`, else an automatic one.

        Raises:
            AzureError: an input by itself breaks a rule.
        """
        if token.startswith(_RANDOM):
            return dict(inputs)
        property_ = arm.name_property(token)
        checked = dict(inputs)
        if property_ and checked.get(property_) is None:
            kept = (old or {}).get(property_)
            checked[property_] = kept or self._automatic_name(token, name, seed)
        rules.check_inputs(token, name, checked)
        return checked

    def diff(self, token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, bool]:
        """The inputs that differ; True where Azure can't change them and the resource must be replaced."""
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        return {key: rules.forces_replacement(token, key) for key in changed}

    def create(self, token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Make a resource from checked inputs.

        Returns:
            Its id, and its outputs: the inputs and what Azure adds.

        Raises:
            AzureError: Azure would refuse it.
        """
        if token.startswith(_RANDOM):
            return _random(token, f"{self.account.subscription_id} {name}", inputs)
        azure = self.azure
        resource_id = arm.resource_id(token, self.account.subscription_id, inputs)
        with azure._changing(*rules.exclusive_parents(token, resource_id)):
            with azure._lock:
                if resource_id.lower() in {id_.lower() for id_ in azure.resources}:
                    raise AzureError(f"{name}: cannot create already existing resource {resource_id}")
                self._refuse_broken(token, name, resource_id, inputs)
            time.sleep(azure.seconds(arm.short_token(token)))
            with azure._lock:
                resource = Resource(resource_id, token, self.account.subscription_id, _without_secrets(token, inputs))
                resource.extra = rules.initial_extra(token, inputs)
                azure.resources[resource_id] = resource
                azure._save()
                return resource_id, self._outputs(resource, inputs)

    def read(self, resource_id: str, known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """A resource's inputs and outputs as they are now; None where it is gone.

        Args:
            resource_id: its id.
            known: inputs that the caller has; they stand in for those that Azure never gives back.
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
            AzureError: Azure would refuse it, or the resource is gone.
        """
        if token.startswith(_RANDOM):
            return _random(token, f"{self.account.subscription_id} {name}", inputs)[1]
        azure = self.azure
        with azure._changing(*rules.exclusive_parents(token, resource_id)), azure._lock:
            resource = azure.resources.get(resource_id)
            if resource is None:
                raise AzureError(f"{name}: {resource_id} is not there")
            self._refuse_broken(token, name, resource_id, inputs)
            kept = _without_secrets(token, inputs)
            rules.keep_what_azure_ignores(token, resource, kept)
            resource.inputs = kept
            rules.roll(token, resource, inputs)
            azure._save()
            return self._outputs(resource, inputs)

    def delete(self, token: str, name: str, resource_id: str) -> None:
        """Remove a resource.

        Raises:
            AzureError: Azure would refuse it.
        """
        if token.startswith(_RANDOM):
            return
        azure = self.azure
        with azure._changing(*rules.exclusive_parents(token, resource_id)), azure._lock:
            resource = azure.resources.get(resource_id)
            if resource is None:
                return
            rules.refuse_delete(azure.resources, name, resource)
            # What lies below a resource goes with it, as in Azure; a vault only after its soft delete.
            for below in [id_ for id_ in azure.resources if id_ == resource_id or id_.startswith(f"{resource_id}/")]:
                gone = azure.resources.pop(below)
                if gone.short == "keyvault:Vault":
                    azure.soft_deleted[gone.inputs["vaultName"]] = below
            azure._save()

    def invoke(self, token: str) -> dict[str, Any]:
        """Answer a provider function.

        Raises:
            AzureError: the offline Azure does not have it.
        """
        if token == "azure-native:authorization:getClientConfig":  # noqa: S105
            return {
                "clientId": self.account.deployer_id,
                "objectId": self.account.deployer_id,
                "subscriptionId": self.account.subscription_id,
                "tenantId": self.account.tenant_id,
            }
        raise AzureError(f"the offline Azure has no function {token}")

    @staticmethod
    def preview(inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a resource before it is made: its inputs, but those that come back in another shape."""
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

    def _automatic_name(self, token: str, name: str, seed: str) -> str:
        """A name that nothing has: neither what a stack left in Azure nor a vault that was deleted."""
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


def _made_up_name(token: str, name: str, made_of: str) -> str:
    if arm.named_by_guid(token):
        return str(uuid5(_NAMESPACE, made_of))
    return f"{name}{hashlib.sha256(made_of.encode()).hexdigest()[:_SUFFIX_CHARACTERS]}"


def digest(value: object) -> str:
    """What is kept of a secret."""
    return f"sha256:{hashlib.sha256(str(value).encode()).hexdigest()}"


def _without_secrets(token: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return _replaced(token, inputs, lambda _, value: digest(value))


def _with_secrets(token: str, kept: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    def put_back(path: str, value: Any) -> Any:
        told: Any = known
        for step in path.split("."):
            told = (told or {}).get(step)
        return told if told is not None and digest(told) == value else value

    return _replaced(token, kept, put_back)


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
    """Stand-ins for the random provider: they look random, and are the same in each run."""
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
    # The blocks kept for documentation, RFC 5737.
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


_COMPUTED: dict[str, Callable[[Subscription, Resource, Mapping[str, Any]], dict[str, Any]]] = {
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
    "applicationinsights:Component": lambda _, resource, __: {
        "connectionString": (
            f"InstrumentationKey={uuid5(_NAMESPACE, resource.id)};IngestionEndpoint=https://offline.invalid/"
        )
    },
    # Goes in as a list of ids and comes back as a map of them.
    "compute:VirtualMachineScaleSet": lambda _, __, outputs: {
        "identity": {
            **outputs["identity"],
            "userAssignedIdentities": {id_: {} for id_ in outputs["identity"]["userAssignedIdentities"]},
        }
    },
}
