"""Maven artifacts, and what is installed of them on a VM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from contract.models import StrictModel

_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"


class Artifact(StrictModel):
    """A file of a Maven repository."""

    coordinates: Annotated[str, StringConstraints(pattern=rf"^({_PART}:){{2}}{_PART}$")] = Field(
        description="`GROUP:NAME:VERSION` in a Maven repository"
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the file, 64 hex digits; a VM takes no other"
    )

    def __str__(self) -> str:
        return f"{self.coordinates}={self.sha256}"


@dataclass(frozen=True)
class Installation:
    """The ledger software to install on a VM, or in its image."""

    version: str
    folder: Path
    """Target folder, replaced as a whole."""
    repository: str | None = None
    """`https://` URL of a repository in Maven's layout; None: as the machine's Maven is configured."""
    artifact: Artifact | None = None
    """The ledger software, if it is not the platform's known artifact of this version."""
    applications: tuple[Artifact, ...] = ()
    """The bank's applications on the ledger."""
