"""What a bank's VM gets in its custom data and user data, as its first boot finds it."""

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from contract.vm_configuration import INSTALLATION
from delivery import unpack
from delivery.cloud_config import (
    cloud_config,
    user_data,
)
from ledger.corda import CORDA

RUNTIME = ["openjdk-8-jdk-headless"]
INSTALLS = ("corda", CORDA.default_version, str(INSTALLATION))
assert CORDA.authority
AUTHORITY = CORDA.authority.module
PREFIX = "/opt/decentralized-trust"
ARCHIVE = f"{PREFIX}/source.ppmd"
SOURCE = "account.file.core.windows.net:/account/ledger"


def document_of(text: str) -> dict[str, Any]:
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config", "cloud-init ignores a document that begins with anything else"
    return dict(json.loads(rest))


def files_of_document(text: str) -> dict[str, str]:
    return {each["path"]: each["content"] for each in document_of(text)["write_files"] if "encoding" not in each}


def config(configuration: str = "{}", source: str | None = SOURCE, **changes: Any) -> str:
    """The cloud-init document of a node VM; `changes` for another program."""
    egress = None if source is None else "table inet ledger {}"
    options: dict[str, Any] = {"in_image": False, "installation": INSTALLS, "egress": egress} | changes
    return cloud_config(configuration, source, RUNTIME, **options)


def unpacked(module: str, folder: Path) -> Path:
    """The sources that a VM gets, combined from both parts as install.sh does, in a folder."""
    text = config(module=module)
    (first,) = (each for each in document_of(text)["write_files"] if "encoding" in each)
    assert first["path"] == f"{ARCHIVE}.first"
    whole = base64.b64decode(first["content"]) + base64.b64decode(user_data(module=module, installation=INSTALLS))
    assert files_of_document(text)[f"{ARCHIVE}.sha256"] == f"{sha256(whole).hexdigest()}  {ARCHIVE}\n", (
        "the VM knows what it is to get, and another content rolls the VMs"
    )
    for path, content in unpack.unpacked(whole).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    return folder
