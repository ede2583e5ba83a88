"""The cloud-init document of a VM, as its scale set's custom data; without an image, user data too. No secret in it.

Azure takes 64 KB of each. The programs' sources are more than that leaves room for, so they are stripped of what only
people read, packed, and sent in two halves: one in each.
"""

import base64
import gzip
import hashlib
import io
import json
import lzma
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.agent import DRAIN_SECONDS, END_SECONDS
from agent.configuration import PATH as CONFIGURATION_PATH
from agent.lease import WATCHDOG_SECONDS
from delivery.bare import bare
from delivery.sources import every_file, files_of
from ledger.platforms import PLATFORMS

MAX_CUSTOM_DATA_BYTES = 65_535
"""Azure's limit, as the reference of osProfile.customData has it: one less than the 64 KB of the guide."""
MAX_USER_DATA_BYTES = 49_152
"""64 KB in base64: learn.microsoft.com/azure/virtual-machines/user-data does not say which of both may be 64 KB."""
SHARE = Path("/mnt/ledger")
"""Where the share is mounted."""
INSTALLATION = Path("/opt/decentralized-trust/ledger")
"""Where the ledger's artifacts are."""
VENV_PACKAGE = "python3-venv"
"""What the programs' own environment needs of Ubuntu."""
AGENT = "agent"
"""The module that a node VM runs."""

_HERE = Path(__file__).parent
_PREFIX = "/opt/decentralized-trust"
_ETC = CONFIGURATION_PATH.parent
_SHARE_UNIT = "ledger-share.service"
_SHARE_FILE = str(_ETC / "share.env")
INSTALL = f"{_PREFIX}/install.sh"
_ARCHIVE = f"{_PREFIX}/source.tar.xz"


@dataclass(frozen=True)
class _Program:
    """What a VM runs."""

    module: str

    @property
    def _name(self) -> str:
        return "agent" if self.module == AGENT else "authority"

    @property
    def configuration(self) -> str:
        """The file that tells it what it works with."""
        return str(_ETC / f"{self._name}.json")

    @property
    def unit(self) -> str:
        return f"ledger-{self._name}.service"

    @property
    def units(self) -> tuple[str, ...]:
        return (self.unit, _SHARE_UNIT) if self.module == AGENT else (self.unit,)

    def text(self, unit: str) -> str:
        """A systemd unit."""
        if unit == _SHARE_UNIT:
            return _filled(unit)
        return _filled(
            "ledger.service",
            {
                "{name}": unit.removesuffix(".service"),
                "{description}": {
                    "agent": "Agent of a ledger node VM",
                    "authority": "Certifies names for the ledger's network",
                }[self._name],
                "{module}": self.module,
                "{configuration}": self.configuration,
                # An authority writes to no share.
                "{writable}": f"ReadWritePaths=-{SHARE}\n" if self.module == AGENT else "",
            },
        )


def units(module: str = AGENT) -> dict[str, str]:
    """The systemd units of a VM that runs `module`, by name."""
    program = _Program(module)
    return {name: program.text(name) for name in program.units}


def _filled(name: str, values: Mapping[str, str] | None = None) -> str:
    """A file of this folder, with the values that are named elsewhere."""
    text = (_HERE / name).read_text(encoding="utf-8")
    for key, value in {
        **(values or {}),
        "{watchdog_seconds}": str(WATCHDOG_SECONDS),
        "{stop_seconds}": str(DRAIN_SECONDS + END_SECONDS),
        "{share}": str(SHARE),
        "{share_file}": _SHARE_FILE,
    }.items():
        text = text.replace(key, value)
    return text


def _common() -> dict[str, str]:
    return {
        f"{_PREFIX}/requirements.txt": (_HERE / "requirements.txt").read_text(encoding="utf-8"),
        INSTALL: _filled("install.sh"),
    }


def installed() -> dict[str, str]:
    """Every file of an image, by its path: it is good for a node and for an authority."""
    authorities = [platform.authority.module for platform in PLATFORMS.values() if platform.authority]
    return {
        **{f"{_PREFIX}/source/{path}": text for path, text in every_file().items()},
        **{
            f"/etc/systemd/system/{name}": text
            # One image is of one ledger.
            for module in (AGENT, *authorities[:1])
            for name, text in units(module).items()
        },
        **_common(),
    }


def cloud_config(
    configuration: str,
    share_source: str | None,
    packages: Sequence[str],
    *,
    in_image: bool,
    module: str = AGENT,
    installation: Sequence[str] = (),
) -> str:
    """The cloud-init document.

    Args:
        configuration: what the program is told, a JSON document.
        share_source: the share as NFS names it, `HOST:/ACCOUNT/SHARE`; None where the VM has none.
        packages: Ubuntu packages of the ledger's runtime.
        in_image: whether the VM's image has packages, libraries and programs already; then only the configuration is
            written, and nothing is fetched at boot.
        module: what the VM runs: `AGENT`, or a platform's authority.
        installation: arguments of `ledger.install`, the platform's name first; none where nothing is to be installed.
    """
    program = _Program(module)
    written = {program.configuration: configuration}
    if share_source is not None:
        written[_SHARE_FILE] = f"SHARE_SOURCE={share_source}\n"
    if in_image:
        return _document(
            {
                "write_files": _files(written),
                "runcmd": [["systemctl", "restart", "--no-block", *program.units]],
            }
        )
    archive = _archive(module, installation)
    written |= {f"/etc/systemd/system/{name}": text for name, text in units(module).items()} | _common()
    written[f"{_ARCHIVE}.sha256"] = f"{hashlib.sha256(archive).hexdigest()}  {_ARCHIVE}\n"
    first, _ = _halves(archive)
    return _document(
        {
            "package_update": True,
            "packages": [VENV_PACKAGE, *packages],
            "write_files": [
                *_files(written),
                {
                    "path": f"{_ARCHIVE}.first",
                    "permissions": "0644",
                    "encoding": "b64",
                    "content": base64.b64encode(first).decode(),
                },
            ],
            "runcmd": [_boot(installation)],
        }
    )


def user_data(*, module: str = AGENT, installation: Sequence[str] = ()) -> str:
    """What `cloud_config` has no room for, in base64; a VM whose image has everything wants none.

    Raises:
        ValueError: it is larger than Azure takes.
    """
    _, second = _halves(_archive(module, installation))
    if len(second) > MAX_USER_DATA_BYTES:
        raise ValueError(f"user data has {len(second)} bytes; wanted {MAX_USER_DATA_BYTES} at most")
    return base64.b64encode(second).decode()


def custom_data(document: str) -> str:
    """A cloud-init document as Azure takes it: gzip, then base64, the same for the same document.

    Raises:
        ValueError: it is larger than Azure takes.
    """
    packed = gzip.compress(document.encode(), mtime=0)
    if len(packed) > MAX_CUSTOM_DATA_BYTES:
        raise ValueError(f"custom data has {len(packed)} bytes; wanted {MAX_CUSTOM_DATA_BYTES} at most")
    return base64.b64encode(packed).decode()


def _boot(installation: Sequence[str]) -> list[str]:
    # cloud-init's failures don't fail a VM's provisioning, learn.microsoft.com/azure/virtual-machines/custom-data. A
    # VM whose program does not answer counts as ill once its grace period is over; why, stands on the serial console.
    log = f"{_PREFIX}/install.log"
    install = shlex.join([INSTALL, *installation])
    return ["sh", "-c", f"{install} >{log} 2>&1 || {{ cat {log} >/dev/console; exit 1; }}"]


def _archive(module: str, installation: Sequence[str]) -> bytes:
    """What the VM runs, packed; the same for the same files."""
    files = files_of(module, installation[0] if installation else None)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, text in sorted(files.items()):
            content = (bare(text) if path.endswith(".py") else text).encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def _halves(archive: bytes) -> tuple[bytes, bytes]:
    middle = len(archive) // 2
    return archive[:middle], archive[middle:]


def _files(contents: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"path": path, "permissions": "0755" if path == INSTALL else "0644", "content": content}
        for path, content in contents.items()
    ]


def _document(keys: dict[str, object]) -> str:
    # JSON is YAML, and needs no library to write.
    return "#cloud-config\n" + json.dumps(keys, indent=1)
