"""Azure Key Vault: one vault for the nodes' private keys, and one for what nodes trust but must not change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from components.inputs import Placement, Safeguards
from components.roles import BuiltInRole, grant_groups
from components.vault import ClosedVault, ClosedVaultArgs, CustomRole, SecretText, VaultArgs, VaultRole
from contract.secrets import RpcUser, VaultSecret

RPC_PASSWORD_LENGTH = 32
"""Characters of an application's password."""


@dataclass(frozen=True, kw_only=True)
class KeyStoreArgs:
    """Inputs of `KeyStore`, whose name has five characters at most: it is part of its vaults' names."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    vault: VaultArgs
    """Required. Inputs that the member's vaults share."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may read and write the nodes' keys, read what this program writes, and
    delete neither."""
    peer_cards: Mapping[str, str] = field(default_factory=dict)
    """Optional. The verified membership cards as JSON, by the peer's name; without any the member has no peer."""
    enrolment_key: Input[str] | None = None
    """Conditional. The key that this member and the network authority agreed on, hex; always stored as a secret.
    Required if the node VMs run this project's agent."""
    card: Input[Mapping[str, Any]] | None = None
    """Conditional. The member's own signed card, which agents serve to peers; resolves once the VPN gateway exists.
    Required if the node VMs run this project's agent."""
    rpc_users: Sequence[RpcUser] = ()
    """Optional. The applications that may use RPC, each with its permissions in the platform's terms."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read the applications' passwords, from inside the network."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""


class KeyStore(ComponentResource):
    """The two vaults of the nodes: agents write each identity's keys into one, and only read the other.

    Peers' cards, the authority's key and the applications' accounts are in the vault that no VM can write to.
    """

    key_vault_id: Output[str]
    """Resource id of the vault of the identities' keys."""
    key_vault_uri: Output[str]
    """Data plane URI of the vault of the identities' keys."""
    bank_vault_id: Output[str]
    """Resource id of the vault that only this program writes."""
    bank_vault_uri: Output[str]
    """Data plane URI of the vault that only this program writes."""
    parts: list[Resource]
    """The children that node VMs depend on: everything except this member's card.

    VMs must not depend on the whole component: the card waits for the VPN gateway, see `GATEWAY_TIMEOUTS`.
    """

    def __init__(self, name: str, args: KeyStoreArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:KeyStore", name, None, opts)
        keys = ClosedVault(
            name,
            ClosedVaultArgs(
                placement=args.placement,
                vault=args.vault,
                safeguards=args.safeguards,
                role=VaultRole(
                    role=CustomRole(
                        definition="node-role",
                        role_name="Ledger node secrets",
                        description="Reads and writes the secrets of ledger nodes; deletes and purges none.",
                        data_actions=[
                            f"secrets/{action}/action" for action in ("getSecret", "setSecret", "readMetadata")
                        ],
                    ),
                    principal_id=args.node_principal_id,
                    assignment="nodes",
                ),
                secrets={},
            ),
            ResourceOptions(parent=self),
        )
        bank = ClosedVault(
            f"{name}-bank",
            ClosedVaultArgs(
                placement=args.placement,
                vault=args.vault,
                safeguards=args.safeguards,
                role=VaultRole(
                    role=BuiltInRole.KEY_VAULT_SECRETS_USER,
                    principal_id=args.node_principal_id,
                    assignment="nodes",
                ),
                secrets=self._secrets(name, args),
                peer_cards=args.peer_cards,
            ),
            ResourceOptions(parent=self),
        )
        grant_groups(
            f"{name}-operators",
            role=BuiltInRole.KEY_VAULT_SECRETS_USER,
            # Not on the vault: operators have no use for the enrolment key.
            scope=bank.secret_ids[VaultSecret.RPC_USERS],
            groups=args.operators,
            parent=self,
        )
        self.key_vault_id, self.key_vault_uri = keys.vault_id, keys.vault_uri
        self.bank_vault_id, self.bank_vault_uri = bank.vault_id, bank.vault_uri
        self.parts = [*keys.parts, *bank.parts]
        self.register_outputs(
            {
                "key_vault_id": self.key_vault_id,
                "key_vault_uri": self.key_vault_uri,
                "bank_vault_id": self.bank_vault_id,
                "bank_vault_uri": self.bank_vault_uri,
            }
        )

    def _secrets(self, name: str, args: KeyStoreArgs) -> dict[VaultSecret, SecretText]:
        secrets: dict[VaultSecret, SecretText] = {}
        if args.card is not None:
            secrets[VaultSecret.CARD] = SecretText(
                value=Output.json_dumps(args.card, sort_keys=True), confidential=False, late=True
            )
        if args.enrolment_key is not None:
            secrets[VaultSecret.ENROLMENT_KEY] = SecretText(value=args.enrolment_key)
        users = self._rpc_users(name, args.rpc_users)
        return {**secrets, VaultSecret.RPC_USERS: SecretText(value=users)}

    def _rpc_users(self, name: str, users: Sequence[RpcUser]) -> Output[str]:
        """The secret `rpc-users`. A password is generated once, and stored only in the state and the vault."""
        passwords: list[Output[str]] = []
        for user in users:
            made = random.RandomPassword(
                f"{name}-rpc-{user.name}",
                length=RPC_PASSWORD_LENGTH,
                special=False,
                opts=ResourceOptions(parent=self, additional_secret_outputs=["result", "bcrypt_hash"]),
            )
            passwords.append(Output.secret(made.result))

        def written(known: Sequence[str]) -> str:
            accounts = [user.with_password(password) for user, password in zip(users, known, strict=True)]
            return json.dumps([account.model_dump(by_alias=True) for account in accounts], sort_keys=True)

        return Output.all(*passwords).apply(written)
