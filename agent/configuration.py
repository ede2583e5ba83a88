"""What an agent is told by the infrastructure: a JSON document without secrets, on the VM as a file."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ledger.platform import POSTGRESQL_PORT, Artifact

PATH = Path("/etc/decentralized-trust/agent.json")
"""Where the file lies."""


_M = TypeVar("_M", bound=BaseModel)


class ConfigurationError(ValueError):
    """The file can't be used; the message names key, value and what was wanted."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class DatabaseServer(_Section):
    """Where the identities' databases are."""

    host: str
    port: int = POSTGRESQL_PORT
    administrator: str
    """Name of the VM identity's role, which signs in by an Entra token."""
    root_certificates: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Trust roots of its certificate; those of the VM's system."""


class NetworkAuthority(_Section):
    """The member that certifies names for the network."""

    url: str
    """Base of its requests."""


class NetworkZone(_Section):
    """A network that others run."""

    registration_url: str
    network_map_url: str
    trust_root: str
    """Its root certificate, PEM."""


class Network(_Section):
    """The ledger's network, as far as configuration says."""

    authority: NetworkAuthority | None = None
    zone: NetworkZone | None = None
    trust_root: str | None = None
    """Pins the root certificate: `sha256:` and 64 hex digits over its DER."""
    document: str | None = None
    """Pins the network document: `sha256:` and 64 hex digits over the file."""


class Configuration(_Section):
    """What one VM's agent works with."""

    member: str
    """The bank's name in the consortium."""
    platform: str
    version: str
    """Of the ledger software."""
    legal_name: str
    """The bank's."""
    identities: Annotated[int, Field(ge=1)]
    roles: dict[str, str] = {}
    """Names of roles by names of identities, where it is not the platform's first."""
    frontend: str
    """The address that peers and applications dial: the load balancer's."""
    network: Network = Network()
    installation: Path
    """Where the ledger's artifacts are."""
    artifact: Artifact | None = None
    """The ledger software that should lie there, where it is not the one that the platform knows."""
    applications: tuple[Artifact, ...] = ()
    """What the bank runs on its nodes, and should lie there."""
    client_id: str
    """The VMs' user-assigned identity."""
    vault_url: str
    blob_url: str
    lease_container: str
    network_container: str
    share: Path
    """Where the share is mounted."""
    database: DatabaseServer | None
    connection_string: str | None
    """Of Application Insights; None sends nothing."""

    def to_json(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1)


def read_configuration(path: Path) -> Configuration:
    """The agent's configuration in a file; raises as `read` does."""
    return read(path, Configuration, "the agent's configuration")


def read(path: Path, model: type[_M], wanted: str) -> _M:
    """What a VM is told in a file.

    Raises:
        ConfigurationError: there is none, or it can't be used.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; wanted {wanted}") from error
    except ValidationError as error:
        raise ConfigurationError("\n".join(_line(path, dict(each)) for each in error.errors())) from error


def _line(path: Path, fault: dict[str, Any]) -> str:
    key = ".".join(str(step) for step in fault["loc"]) or "the document"
    if fault["type"] == "missing":
        return f"{path}: {key} is missing"
    return f"{path}: {key}: {fault['input']!r:.80}: {fault['msg']}"
