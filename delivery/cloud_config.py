"""The cloud-init document of a node VM, as the scale set's custom data. It holds no secret."""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import agent
import ledger
from agent.configuration import PATH as CONFIGURATION_PATH
from agent.lease import WATCHDOG_SECONDS

MAX_CUSTOM_DATA_BYTES = 65_536
"""Azure's limit, learn.microsoft.com/azure/virtual-machines/custom-data."""
SHARE = Path("/mnt/ledger")
"""Where the share is mounted."""
VENV_PACKAGE = "python3-venv"
"""What the agent's own environment needs of Ubuntu."""

_HERE = Path(__file__).parent
_PREFIX = "/opt/decentralized-trust"
_UNITS = ("ledger-agent.service", "ledger-share.service")
_SHARE_FILE = "/etc/decentralized-trust/share.env"
INSTALL = f"{_PREFIX}/install.sh"
# cloud-init's failures don't fail a VM's provisioning, learn.microsoft.com/azure/virtual-machines/custom-data. A VM
# whose agent does not answer counts as ill once its grace period is over; why, stands on the serial console.
_BOOT = [
    "sh",
    "-c",
    f"{INSTALL} >{_PREFIX}/install.log 2>&1 || {{ cat {_PREFIX}/install.log >/dev/console; exit 1; }}",
]


def units() -> dict[str, str]:
    """The systemd units of a VM, by name."""
    return {name: _filled(name) for name in _UNITS}


def _filled(name: str) -> str:
    """A file of this folder, with the values that are named elsewhere."""
    text = (_HERE / name).read_text(encoding="utf-8")
    for key, value in {
        "{watchdog_seconds}": str(WATCHDOG_SECONDS),
        "{share}": str(SHARE),
        "{share_file}": _SHARE_FILE,
        "{configuration}": str(CONFIGURATION_PATH),
    }.items():
        text = text.replace(key, value)
    return text


def installed() -> dict[str, str]:
    """Every file of the agent's installation, by its path on the VM; the same in an image and in custom data."""
    return {
        **{f"{_PREFIX}/source/{path}": text for path, text in _sources()},
        **{f"/etc/systemd/system/{name}": text for name, text in units().items()},
        f"{_PREFIX}/requirements.txt": (_HERE / "requirements.txt").read_text(encoding="utf-8"),
        INSTALL: _filled("install.sh"),
    }


def cloud_config(configuration: str, share_source: str, packages: Sequence[str], *, in_image: bool) -> str:
    """The cloud-init document.

    Args:
        configuration: what the agent is told, a JSON document.
        share_source: the share as NFS names it, `HOST:/ACCOUNT/SHARE`.
        packages: Ubuntu packages of the ledger's runtime.
        in_image: whether the VM's image has packages, libraries and agent already; then only the configuration is
            written, and nothing is fetched at boot.
    """
    written = {str(CONFIGURATION_PATH): configuration, _SHARE_FILE: f"SHARE_SOURCE={share_source}\n"}
    if in_image:
        return _document(
            {"write_files": _files(written), "runcmd": [["systemctl", "restart", "--no-block", *_UNITS]]}
        )
    return _document(
        {
            "package_update": True,
            "packages": [VENV_PACKAGE, *packages],
            "write_files": _files(written | installed()),
            "runcmd": [_BOOT],
        }
    )


def custom_data(document: str) -> str:
    """A cloud-init document as Azure takes it: gzip, then base64, the same for the same document.

    Raises:
        ValueError: it is larger than Azure takes.
    """
    packed = gzip.compress(document.encode(), mtime=0)
    if len(packed) > MAX_CUSTOM_DATA_BYTES:
        raise ValueError(f"custom data has {len(packed)} bytes; wanted {MAX_CUSTOM_DATA_BYTES} at most")
    return base64.b64encode(packed).decode()


def _sources() -> Iterator[tuple[str, str]]:
    """Every module that a VM runs, with its path."""
    for package in (agent, ledger):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            yield str(path.relative_to(folder.parent)), path.read_text(encoding="utf-8")


def _files(contents: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"path": path, "permissions": "0755" if path == INSTALL else "0644", "content": content}
        for path, content in contents.items()
    ]


def _document(keys: dict[str, object]) -> str:
    # JSON is YAML, and needs no library to write.
    return "#cloud-config\n" + json.dumps(keys, indent=1)
