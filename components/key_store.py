"""Azure Key Vault: the private keys of the bank's ledger nodes, and what the nodes must know besides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions

from agent.vault import ENROLMENT_KEY, RPC_USERS
from components.roles import Role, grant_groups
from components.vault import ClosedVault, Text, VaultArgs

_PASSWORD_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class KeyStoreArgs(VaultArgs):
    """Inputs of `KeyStore`."""

    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may read and write secrets, not delete them."""
    peer_cards: Mapping[str, str]
    """Required. The verified membership cards as JSON, by the peer's name."""
    enrolment_key: Input[str]
    """Required. What this member and the network authority agreed, hex; always stored as a secret."""
    rpc_users: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Optional. The applications that may use RPC, by name, each with its permissions in the platform's words."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read the applications' passwords, from inside the network."""


class KeyStore(ComponentResource):
    """The vault of the nodes. The agents put each identity's keys in, and find here what the program knows."""

    vault_id: Output[str]
    """Resource id of the vault."""
    vault_name: Output[str]
    """Name of the vault."""
    vault_uri: Output[str]
    """URI of the vault's data plane."""

    def __init__(self, name: str, args: KeyStoreArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:KeyStore", name, None, opts)
        vault = ClosedVault(name, args, self)
        vault.allow(
            "node-role",
            role_name="Ledger node secrets",
            description="Reads and writes the secrets of ledger nodes; deletes and purges none.",
            data_actions=[f"secrets/{action}/action" for action in ("getSecret", "setSecret", "readMetadata")],
            principal_id=args.node_principal_id,
            grantees="nodes",
        )
        vault.write_peers(args.peer_cards)
        vault.secret("enrolment-key", args.enrolment_key, ENROLMENT_KEY, text=Text.CONFIDENTIAL)
        users = vault.secret("rpc-users", self._rpc_users(name, args.rpc_users), RPC_USERS, text=Text.CONFIDENTIAL)
        grant_groups(
            f"{name}-operators",
            role=Role.KEY_VAULT_SECRETS_USER,
            # Not on the vault: nobody has business with the nodes' keys.
            scope=users.id,
            groups=args.operators,
            parent=self,
        )
        self.vault_id = vault.resource.id
        self.vault_name = vault.resource.name
        self.vault_uri = vault.uri
        self.register_outputs({"vault_id": self.vault_id, "vault_name": self.vault_name, "vault_uri": self.vault_uri})

    def _rpc_users(self, name: str, users: Mapping[str, Sequence[str]]) -> Output[str]:
        """The users as nodes read them. A password is made once, and leaves the state for the vault alone."""
        written = []
        for user, permissions in users.items():
            made = random.RandomPassword(
                f"{name}-rpc-{user}",
                length=_PASSWORD_LENGTH,
                special=False,
                opts=ResourceOptions(parent=self, additional_secret_outputs=["result", "bcrypt_hash"]),
            )
            password: Output[str] = Output.secret(made.result)
            written.append({"name": user, "password": password, "permissions": list(permissions)})
        return Output.json_dumps(written, sort_keys=True)
