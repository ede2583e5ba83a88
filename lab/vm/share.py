"""A share over NFS 4.1, by a server in user space: the kernel here may have none."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from contract.ports import NFS_PORT
from lab.namespaces import ENDING_WITH_US

_EXPORT_SECONDS = 30
_GANESHA = """
NFS_CORE_PARAM {{
  Protocols = 4; Bind_addr = {address}; NFS_Port = {port}; Enable_NLM = false; Enable_RQUOTA = false;
}}
NFSV4 {{ Minor_Versions = 1; Grace_Period = 5; Lease_Lifetime = 10; RecoveryRoot = "{recovery}"; }}
EXPORT {{
  Export_Id = 1; Path = "{folder}"; Pseudo = "{name}"; Protocols = 4; Access_Type = RW; Squash = No_Root_Squash;
  SecType = sys; FSAL {{ Name = VFS; }}
}}
"""


@dataclass(frozen=True)
class ServedShare:
    """A share, and the process that serves it."""

    folder: Path
    """The folder with its content."""
    _server: "subprocess.Popen[bytes]"

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Suspend the server during the block; requests are answered after it."""
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)


@contextmanager
def serving(address: IPv4Address, name: str, folder: Path) -> Iterator[ServedShare]:
    """Serve a share by the name that clients mount, such as `/ACCOUNT/SHARE`.

    Raises:
        RuntimeError: the server ends, or does not answer in time; the message has the end of its log.
    """
    exported, recovery, configuration = folder / "share", folder / "recovery", folder / "ganesha.conf"
    for each in (exported, recovery):
        each.mkdir(parents=True)
    text = _GANESHA.format(address=address, port=NFS_PORT, recovery=recovery, folder=exported, name=name)
    configuration.write_text(text, encoding="utf-8")
    files = ("-f", str(configuration), "-L", str(folder / "share.log"), "-p", str(folder / "share.pid"))
    command = [*ENDING_WITH_US, "ganesha.nfsd", "-F", *files]
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + _EXPORT_SECONDS
        while True:
            try:
                socket.create_connection((str(address), NFS_PORT), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"no share: {(folder / 'share.log').read_text()[-2000:]}") from None
                time.sleep(0.1)
        yield ServedShare(exported, process)
    finally:
        process.kill()
        process.wait()
