"""Names of the secrets that the infrastructure writes into a bank's vaults for its VMs, and what they hold."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from contract.models import StrictModel, each_once
from contract.platform import AGENT_USER


class VaultSecret(StrEnum):
    """Names of secrets."""

    PEERS = "peers"
    """JSON: by the name of each current peer, the name of the secret that holds its card."""
    CARD = "card"
    """The bank's own card, as signed."""
    ENROLMENT_KEY = "enrolment-key"
    """64 hex digits: the key that the bank and the network authority agreed on."""
    RPC_USERS = "rpc-users"
    """JSON: list of `RpcAccount`."""
    ENROLMENT_KEYS = "enrolment-keys"
    """In an authority's vault. JSON: 64 hex digits by member name."""
    AGREED_NAMES = "agreed-names"
    """In an authority's vault. JSON: legal names by peer name, as agreed out of band."""


class RpcUser(StrictModel):
    """RPC user of one of the bank's applications."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")] = Field(
        description=f"letters, digits and `_`, a letter first, 32 at most; unique, and not `{AGENT_USER}`"
    )
    permissions: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(each_once)] = Field(
        description="each a permission in the platform's terms, such as `StartFlow.com.bank.credit.Report` or "
        "`InvokeRpc.nodeInfo`"
    )

    def with_password(self, password: str) -> "RpcAccount":
        """The user's entry in the secret."""
        return RpcAccount(name=self.name, permissions=self.permissions, password=password)


class RpcAccount(RpcUser):
    """An entry of secret `rpc-users`. Older agents ignore properties that a newer program adds."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    password: str = Field(repr=False)
