"""The cloud-init document of a node VM, as the scale set's custom data. It holds no secret."""

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from agent.ports import HEALTH_PATH, HEALTH_PORT

MAX_CUSTOM_DATA_BYTES = 65_536
"""Azure's limit, learn.microsoft.com/azure/virtual-machines/custom-data."""

_RESPONDER = Path(__file__).with_name("health.py")
_INSTALLED = "/opt/decentralized-trust/health.py"
_UNIT = f"""\
[Unit]
Description=Health responder of a node VM
After=network.target

[Service]
ExecStart=/usr/bin/python3 {_INSTALLED} {HEALTH_PORT} {HEALTH_PATH}
Restart=always
DynamicUser=yes
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6
SystemCallFilter=@system-service
CapabilityBoundingSet=
MemoryMax=64M

[Install]
WantedBy=multi-user.target
"""


def cloud_config(packages: Sequence[str]) -> str:
    """The cloud-init document: the runtime's packages, and the health responder as a service.

    Args:
        packages: Ubuntu packages to install; none where the image has them.
    """
    document = {
        "package_update": bool(packages),
        "packages": list(packages),
        "write_files": [
            {"path": _INSTALLED, "permissions": "0644", "content": _RESPONDER.read_text(encoding="utf-8")},
            {"path": "/etc/systemd/system/ledger-health.service", "permissions": "0644", "content": _UNIT},
        ],
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "ledger-health.service"]],
    }
    # JSON is YAML, and needs no library to write.
    return "#cloud-config\n" + json.dumps({key: value for key, value in document.items() if value}, indent=1)


def custom_data(document: str) -> str:
    """A cloud-init document as Azure takes it: gzip, then base64, the same for the same document.

    Raises:
        ValueError: it is larger than Azure takes.
    """
    packed = gzip.compress(document.encode(), mtime=0)
    if len(packed) > MAX_CUSTOM_DATA_BYTES:
        raise ValueError(f"custom data has {len(packed)} bytes; wanted {MAX_CUSTOM_DATA_BYTES} at most")
    return base64.b64encode(packed).decode()
