"""Reads the configuration that the infrastructure writes to an authority's VM."""

from pathlib import Path

from contract.authority_configuration import AuthorityConfiguration
from host.vm_configuration import read_configuration


def read_authority_configuration(path: Path) -> tuple[AuthorityConfiguration, float]:
    """The authority's configuration, and the time when its file was written, in seconds since 1970.

    Raises:
        ConfigurationError: the file is missing or unusable.
    """
    return read_configuration(path, AuthorityConfiguration, "the authority's configuration"), path.stat().st_mtime
