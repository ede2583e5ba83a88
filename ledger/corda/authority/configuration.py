"""What an authority is told by the infrastructure: a JSON document without secrets, on its VMs as a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from agent.configuration import read
from ledger.corda import check_bank_legal_name, parse_legal_name
from ledger.platform import Artifact, Installation

PATH = Path("/etc/decentralized-trust/authority.json")
"""Where the file lies."""


class Approval(StrEnum):
    """Who says yes to a request for a name that stands on the asking member's card."""

    AUTO = "auto"
    """The card."""
    MANUAL = "manual"
    """A person, by the command `approve`."""


def _legal_name(text: str) -> str:
    parts = parse_legal_name(text)
    return ", ".join(f"{key}={value}" for key, value in parts.items())


_LegalName = Annotated[str, AfterValidator(_legal_name)]
_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Parameters(_Section):
    """The network's parameters, as far as they are a matter of choice."""

    minimum_platform_version: Annotated[int, Field(ge=1)]
    max_message_bytes: Annotated[int, Field(ge=65_536)]
    max_transaction_bytes: Annotated[int, Field(ge=65_536)]
    event_horizon_days: Annotated[int, Field(ge=1)]


class Configuration(_Section):
    """What one VM of an authority works with."""

    member: str
    """The bank whose authority it is."""
    legal_names: tuple[_LegalName, ...]
    """Those of its own nodes: the other members' stand on their cards."""
    client_id: str
    """The VMs' user-assigned identity."""
    vault_url: str
    """The authority's own vault, with its keys, the peers' cards and the enrolment keys."""
    blob_url: str
    container: str
    """The register's."""
    url: _Url
    """Base of its requests, as members dial it."""
    crl_url: _Url
    """Base of its revocation lists, as nodes dial it: `http://HOST:PORT`."""
    approval: Approval
    subject: Annotated[str, AfterValidator(check_bank_legal_name)]
    """The bank's legal name: that of its certificates but for the CN."""
    notaries: tuple[_LegalName, ...]
    """Legal names of the notaries."""
    parameters: Parameters
    installation: Path
    """Where the ledger's artifacts are: Corda's own code writes the parameters."""
    version: str
    """Of Corda."""
    artifact: Artifact | None = None
    """Corda, where it is not the artifact that is known for its version."""
    applications: tuple[Artifact, ...] = ()
    """What is installed as well: authority and nodes have one image."""
    connection_string: str | None
    """Of Application Insights; None sends nothing."""

    @property
    def wanted(self) -> Installation:
        """What should be installed."""
        return Installation(self.version, self.installation, artifact=self.artifact, applications=self.applications)

    def to_json(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1)


def read_configuration(path: Path) -> tuple[Configuration, float]:
    """The configuration in a file, and when it was written, in seconds since 1970.

    Raises:
        ConfigurationError: there is none, or it can't be used.
    """
    return read(path, Configuration, "the authority's configuration"), path.stat().st_mtime
