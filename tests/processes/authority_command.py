"""An authority's VM as its interpreter sees it: the installed sources, with a local vault and Azurite for its clouds.

Run as `python -m tests.processes.authority_command -B -m MODULE ARGUMENTS`, with the sources as working directory.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import ContainerClient

from lab.banks.azurite import CREDENTIAL
from lab.banks.key_vault import client_of, key_client_of


def main(options: list[str], module: str, arguments: list[str]) -> int:
    assert options == ["-B", "-m"], "root leaves no bytecode among the sources"
    given = json.loads(Path(os.environ["CLOUDS"]).read_text())
    commands: Any = import_module(f"{module}.__main__")
    assert Path(commands.__file__).is_relative_to(Path.cwd()), "the VM's sources must run, and not the checkout's"
    vm = import_module(f"{module}.vm")
    keys_of = import_module(f"{module}.keys").VaultKeys
    commands.AUTHORITY_FILE = Path(given["file"])
    certificate, (url, name) = Path(given["certificate"]), given["register"]

    @asynccontextmanager
    async def connect(configuration: Any, configured: float) -> AsyncIterator[Any]:
        async with (
            ContainerClient(url, name, CREDENTIAL, retry_total=0) as container,
            client_of(configuration.vault_url, certificate) as secrets,
            key_client_of(configuration.vault_url, certificate) as keys,
            key_client_of(configuration.root_vault_url, certificate) as root,
        ):
            yield vm.authority_of(configuration, configured, container, secrets, keys_of(keys, root))

    return commands.main(arguments, connect)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:3], sys.argv[3], sys.argv[4:]))
