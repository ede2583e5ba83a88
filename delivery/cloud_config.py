"""The cloud-init document in a VM's custom data, and without an image its user data. Both without secrets.

Azure takes 64 KB of each. The programs' sources are packed and cut in two: user data is filled first, custom data
gets the rest.
"""

import base64
import gzip
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.timing import LEASE, PLANNED_STOP
from contract.users import MAX_TASKS, NODE_USERS, PROGRAM, TOOL
from contract.vm_configuration import AGENT_FILE, AUTHORITY_FILE, EGRESS_FILE, FOLDER, MODEL_FILE, SHARE
from delivery.sources import REPOSITORY, every_file, packed

MAX_CUSTOM_DATA_BYTES = 65_535
"""Azure's limit in the reference of osProfile.customData: one less than the guide's 64 KB."""
MAX_USER_DATA_BYTES = 49_152
"""64 KB in base64: learn.microsoft.com/azure/virtual-machines/user-data does not say which of both may be 64 KB."""
UBUNTU_PACKAGES = ("python3-venv", "nftables")
"""Ubuntu packages of every VM: for the programs' virtual environment, and for the firewall of the nodes' users."""
AGENT = "agent"
"""Module of a node VM's program."""

_HERE = Path(__file__).parent
_COMMENT = re.compile(r"^ *# .*\n", re.MULTILINE)
"""A line of a comment: custom data has little room."""
_PREFIX = "/opt/decentralized-trust"
_SHARE_UNIT = "ledger-share.service"
_SHARE_FILE = str(FOLDER / "share.env")
_EGRESS_UNIT = "ledger-egress.service"
INSTALL = f"{_PREFIX}/install.sh"
_COMMANDS = "/usr/local/bin"
"""In the PATH of shells, Azure's run command included."""
_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL")
"""With these the agent starts and ends a node under another user, which has none of them."""
_MOUNT_UNIT = f"{str(SHARE).strip('/').replace('/', '-')}.mount"
"""systemd's name of the share's mount unit."""
_REQUIRES = f"BindsTo={_EGRESS_UNIT}\nAfter={_EGRESS_UNIT} {_MOUNT_UNIT}\nConditionPathExists={EGRESS_FILE}\n"
"""No agent starts without its nodes' rules; with `Requires` it would where the rules' unit is skipped. When the VM
shuts down, the agent ends before the share is unmounted. No start waits for that: nothing starts the mount's unit."""
_ARCHIVE = f"{_PREFIX}/source.ppmd"


@dataclass(frozen=True)
class _Program:
    """The program of a VM."""

    module: str

    @property
    def _name(self) -> str:
        return "agent" if self.module == AGENT else "authority"

    @property
    def configuration(self) -> str:
        """Path of the program's configuration."""
        return str(AGENT_FILE if self.module == AGENT else AUTHORITY_FILE)

    @property
    def unit(self) -> str:
        return f"ledger-{self._name}.service"

    @property
    def commands(self) -> dict[str, str]:
        """The commands that operators run on the VM, by path."""
        if self.module == AGENT:
            return {}
        program = f'cd {_PREFIX}/source && exec ../venv/bin/python -B -m {self.module} "${{@:---help}}"'
        return {f"{_COMMANDS}/ledger-{self._name}": f"#!/bin/sh\n{program}\n"}

    @property
    def units(self) -> tuple[str, ...]:
        return (self.unit, _SHARE_UNIT, _EGRESS_UNIT) if self.module == AGENT else (self.unit,)

    def text(self, unit: str) -> str:
        """Content of a systemd unit."""
        if unit != self.unit:
            return _filled(unit)
        agent = self.module == AGENT
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
                # An authority writes to no share, and starts no process under another user.
                "{writable}": f"ReadWritePaths=-{SHARE}\n" if agent else "",
                "{requires}": _REQUIRES if agent else "",
                "{capabilities}": " ".join(_CAPABILITIES) if agent else "",
                "{calls}": "@setuid capset" if agent else "capset",
                "{folder_mode}": "0711" if agent else "0700",
                "{mask}": "0027" if agent else "0077",
            },
        )


def units(module: str = AGENT) -> dict[str, str]:
    """The systemd units of a VM that runs `module`, by name."""
    program = _Program(module)
    return {name: program.text(name) for name in program.units}


def _system_files(module: str) -> dict[str, str]:
    """A program's files outside of its folder: units of systemd, and commands."""
    files = {f"/etc/systemd/system/{name}": text for name, text in units(module).items()}
    return files | _Program(module).commands


def _filled(name: str, values: Mapping[str, str] | None = None) -> str:
    """Content of a file in this folder, without comments, and with its placeholders filled in."""
    text = _COMMENT.sub("", (_HERE / name).read_text(encoding="utf-8"))
    for key, value in {
        "{watchdog_seconds}": str(LEASE.watchdog_seconds),
        "{stop_seconds}": str(PLANNED_STOP.total_seconds),
        "{tasks}": str(3 * MAX_TASKS),
        "{share}": str(SHARE),
        "{share_file}": _SHARE_FILE,
        "{egress_file}": str(EGRESS_FILE),
        "{user}": PROGRAM.name,
        "{number}": str(PROGRAM.number),
        "{nodes}": str(len(NODE_USERS)),
        "{first_node}": str(next(iter(NODE_USERS.values())).number),
        "{tool}": TOOL.name,
        "{tool_number}": str(TOOL.number),
        # Last, so that placeholders inside these values are not replaced.
        **(values or {}),
    }.items():
        text = text.replace(key, value)
    return text


def _common() -> dict[str, str]:
    return {
        f"{_PREFIX}/requirements.txt": (_HERE / "requirements.txt").read_text(encoding="utf-8"),
        INSTALL: _filled("install.sh", {"{unpack}": (_HERE / "unpack.py").read_text(encoding="utf-8")}),
    }


def installed(platform: str) -> dict[str, str]:
    """Files of an image for one ledger platform by path; the image serves nodes and authorities."""
    authority = f"ledger.{platform}.authority"
    there = (REPOSITORY / "ledger" / platform / "authority" / "__main__.py").is_file()
    return {
        **{f"{_PREFIX}/source/{path}": text for path, text in every_file().items()},
        **{
            path: text
            for module in (AGENT, *((authority,) if there else ()))
            for path, text in _system_files(module).items()
        },
        **_common(),
    }


def cloud_config(
    configuration: str,
    share_source: str | None,
    packages: Sequence[str],
    *,
    egress: str | None = None,
    in_image: bool,
    module: str = AGENT,
    installation: Sequence[str] = (),
    made_of: Sequence[str] = (),
) -> str:
    """The cloud-init document.

    Args:
        configuration: the program's configuration, a JSON document.
        share_source: the share's NFS source, `HOST:/ACCOUNT/SHARE`; None if the VM has no share.
        packages: Ubuntu packages of the ledger's runtime.
        egress: nftables rules of the nodes' connections; None: no rules, and so no agent starts.
        in_image: whether the VM's image has packages, libraries and programs already; then only the configuration is
            written, and nothing is fetched at boot.
        module: the VM's program: `AGENT`, or a platform's authority.
        installation: arguments of `ledger.install`, the platform's name first; empty: no ledger is installed.
        made_of: what else the VM's model consists of, such as its image: part of the hash that the VM reports.
    """
    program = _Program(module)
    written = {program.configuration: configuration}
    if share_source is not None:
        written[_SHARE_FILE] = f"SHARE_SOURCE={share_source}\n"
    if egress is not None:
        written[str(EGRESS_FILE)] = egress
    if in_image:
        return _modelled(
            {
                "write_files": _files(written),
                # cloud-init writes files before systemd gets to these: they run already, and go on.
                "runcmd": [["systemctl", "start", "--no-block", *program.units]],
            },
            made_of,
        )
    archive = _sources(module, installation)
    written |= _system_files(module) | _common()
    written[f"{_ARCHIVE}.sha256"] = f"{hashlib.sha256(archive).hexdigest()}  {_ARCHIVE}\n"
    first, _ = _cut(archive)
    return _modelled(
        {
            "package_update": True,
            "packages": [*UBUNTU_PACKAGES, *packages],
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
        },
        made_of,
    )


def user_data(*, module: str = AGENT, installation: Sequence[str] = ()) -> str:
    """The second part of the packed sources, in base64; a VM whose image has the programs needs none."""
    _, second = _cut(_sources(module, installation))
    return base64.b64encode(second).decode()


def custom_data(document: str) -> str:
    """Encode a cloud-init document for Azure: gzip, then base64. The same document gives the same text.

    Raises:
        ValueError: the result exceeds `MAX_CUSTOM_DATA_BYTES`.
    """
    packed = gzip.compress(document.encode(), mtime=0)
    if len(packed) > MAX_CUSTOM_DATA_BYTES:
        raise ValueError(f"custom data has {len(packed)} bytes; wanted {MAX_CUSTOM_DATA_BYTES} at most")
    return base64.b64encode(packed).decode()


def _boot(installation: Sequence[str]) -> list[str]:
    # cloud-init's failures don't fail a VM's provisioning, learn.microsoft.com/azure/virtual-machines/custom-data. A
    # VM whose program does not answer becomes unhealthy after its grace period; the serial console shows the reason.
    log = f"{_PREFIX}/install.log"
    install = shlex.join([INSTALL, *installation])
    return ["sh", "-c", f"{install} >{log} 2>&1 || {{ cat {log} >/dev/console; exit 1; }}"]


def _sources(module: str, installation: Sequence[str]) -> bytes:
    return packed(module, installation[0] if installation else None)


def _cut(archive: bytes) -> tuple[bytes, bytes]:
    """The archive's parts for custom data and user data; user data is filled first."""
    cut = max(0, len(archive) - MAX_USER_DATA_BYTES)
    return archive[:cut], archive[cut:]


def mode_of(path: str) -> int:
    """The permissions of a file that is installed."""
    return 0o755 if path == INSTALL or path.startswith(_COMMANDS) else 0o644


def _files(contents: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"path": path, "permissions": f"{mode_of(path):04o}", "content": content}
        for path, content in contents.items()
    ]


def _modelled(keys: dict[str, Any], made_of: Sequence[str]) -> str:
    """The document, which also writes a hash of itself and of `made_of` to a file of the VM."""
    model = hashlib.sha256("\n".join([_document(keys), *made_of]).encode()).hexdigest()[:12]
    return _document({**keys, "write_files": [*keys["write_files"], *_files({str(MODEL_FILE): model})]})


def _document(keys: Mapping[str, object]) -> str:
    # JSON is YAML, and needs no library to write.
    return "#cloud-config\n" + json.dumps(keys, indent=1)
