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

_HERE = Path(__file__).parent
_PREFIX = "/opt/decentralized-trust"
_UNIT = "ledger-agent.service"
_VENV_PACKAGE = "python3-venv"
_INSTALL = f"{_PREFIX}/install.sh"
# cloud-init's failures don't fail a VM's provisioning, learn.microsoft.com/azure/virtual-machines/custom-data. A VM
# whose agent does not answer counts as ill once its grace period is over; why, stands on the serial console.
_BOOT = [
    "sh",
    "-c",
    f"{_INSTALL} >{_PREFIX}/install.log 2>&1 || {{ cat {_PREFIX}/install.log >/dev/console; exit 1; }}",
]


def unit() -> str:
    """The agent's systemd unit."""
    text = (_HERE / _UNIT).read_text(encoding="utf-8")
    return text.replace("{watchdog_seconds}", str(WATCHDOG_SECONDS)).replace("{share}", str(SHARE))


def cloud_config(configuration: str, packages: Sequence[str], *, in_image: bool) -> str:
    """The cloud-init document.

    Args:
        configuration: what the agent is told, a JSON document.
        packages: Ubuntu packages of the ledger's runtime.
        in_image: whether the VM's image has packages, libraries and agent already; then only the configuration is
            written, and nothing is fetched at boot.
    """
    written = [_file(str(CONFIGURATION_PATH), configuration)]
    if in_image:
        # The image has the unit enabled; it starts anew with the configuration.
        return _document({"write_files": written, "runcmd": [["systemctl", "restart", _UNIT]]})
    written += [_file(f"{_PREFIX}/source/{path}", text) for path, text in _sources()]
    written += [
        _file(f"/etc/systemd/system/{_UNIT}", unit()),
        _file(f"{_PREFIX}/requirements.txt", (_HERE / "requirements.txt").read_text(encoding="utf-8")),
        _file(_INSTALL, (_HERE / "install.sh").read_text(encoding="utf-8"), mode="0755"),
    ]
    return _document(
        {
            "package_update": True,
            "packages": [_VENV_PACKAGE, *packages],
            "write_files": written,
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


def _file(path: str, content: str, mode: str = "0644") -> dict[str, str]:
    return {"path": path, "permissions": mode, "content": content}


def _document(keys: dict[str, object]) -> str:
    # JSON is YAML, and needs no library to write.
    return "#cloud-config\n" + json.dumps(keys, indent=1)
