"""A guest: its disk, which overlays the image's, its provisioning disk as Azure writes it, and SSH to it."""

import subprocess
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lab.banks.process import health
from lab.banks.site import Host
from lab.namespaces import ENDING_WITH_US
from lab.vm.image import Image
from lab.vm.metadata import Metadata
from lab.vm.network import LINK

CHASSIS = "7783-7084-3265-9085-8269-3286-77"
"""The asset tag of every VM on Azure, by which cloud-init detects Azure."""
_OVF = """<?xml version="1.0" encoding="utf-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:wa="http://schemas.microsoft.com/windowsazure">
 <wa:ProvisioningSection><wa:Version>1.0</wa:Version>
  <wa:LinuxProvisioningConfigurationSet>
   <wa:ConfigurationSetType>LinuxProvisioningConfiguration</wa:ConfigurationSetType>
   <wa:UserName>{user}</wa:UserName><wa:DisableSshPasswordAuthentication>true</wa:DisableSshPasswordAuthentication>
   <wa:HostName>{host}</wa:HostName><wa:CustomData>{custom_data}</wa:CustomData>
  </wa:LinuxProvisioningConfigurationSet></wa:ProvisioningSection>
 <wa:PlatformSettingsSection><wa:Version>1.0</wa:Version>
  <wa:PlatformSettings><wa:ProvisionGuestAgent>false</wa:ProvisionGuestAgent></wa:PlatformSettings>
 </wa:PlatformSettingsSection>
</Environment>
"""
_BOOT_SECONDS = 900
"""Seconds until a guest accepts a sign-in; on a busy machine a boot has taken 150 s."""
_COMMAND_SECONDS = 120


class GuestError(Exception):
    """A command in a guest failed; the message is its output."""


@dataclass
class Guest:
    """One VM."""

    folder: Path
    image: Image
    metadata: Metadata
    custom_data: str
    """Base64, as on Azure."""
    ssh_key: Path
    """The administrator's SSH key."""
    memory_megabytes: int = 1536
    """Its memory in MiB."""
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def address(self) -> IPv4Address:
        """The guest's address."""
        return self.metadata.address

    @property
    def _console(self) -> Path:
        return self.folder / "console.log"

    def make(self, origin: Path) -> None:
        """Create the guest's disks.

        Args:
            origin: a disk that it starts from; stays as it is.
        """
        self.folder.mkdir(parents=True)
        self._console.touch()
        made = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", origin, "-F", origin.suffix[1:], self.disk)
        subprocess.run(made, check=True)
        provisioning = self.folder / "provisioning"
        provisioning.mkdir()
        text = _OVF.format(
            user=escape(self.metadata.administrator),
            host=escape(self.metadata.host_name),
            custom_data=self.custom_data,
        )
        (provisioning / "ovf-env.xml").write_text(text, encoding="utf-8")
        iso = ("genisoimage", "-quiet", "-output", self._iso, "-volid", "provisioning", "-joliet", "-rock")
        subprocess.run([*iso, provisioning], check=True)

    @property
    def disk(self) -> Path:
        """The disk with the guest's writes."""
        return self.folder / "disk.qcow2"

    @property
    def _iso(self) -> Path:
        return self.folder / "provisioning.iso"

    def power_on(self) -> None:
        """Start the guest; its output goes to the console's log."""
        command = [
            *ENDING_WITH_US,
            *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "Westmere"),
            *("-m", str(self.memory_megabytes), "-smp", "2", "-display", "none", "-monitor", "none"),
            *(
                "-chardev",
                f"file,id=console,path={self._console},append=on",
                "-serial",
                "chardev:console",
            ),
            *("-uuid", self.metadata.vm_id, "-smbios", f"type=3,asset={CHASSIS}"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off no_timer_check quiet"),
            *("-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap"),
            *("-drive", f"file={self._iso},media=cdrom,readonly=on"),
            *("-netdev", f"tap,id=link,ifname={LINK},script=no,downscript=no"),
            *("-device", f"virtio-net,netdev=link,mac={self.metadata.mac}", "-device", "virtio-rng-pci"),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def cut_power(self) -> None:
        """End the guest at once."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def await_off(self, seconds: float) -> None:
        """Wait until the guest has powered itself off.

        Raises:
            GuestError: it has not after so many seconds; with the end of its console's log.
        """
        assert self.process
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise GuestError(
                f"{self.metadata.host_name}: still on after {seconds:g} s: {self.said()[-2000:]}"
            ) from error

    def run(self, command: str, *, seconds: float = _COMMAND_SECONDS) -> str:
        """Run a shell command as root; returns its output.

        Raises:
            GuestError: it fails, or the guest can't be reached.
        """
        try:
            done = subprocess.run(
                [*self._ssh(), "sudo", "sh"],
                input=command,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"{command}: not done in {seconds:g} s") from error
        if done.returncode:
            raise GuestError(f"{command}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _ssh(self) -> list[str]:
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "5",
            # A handshake takes a second in a guest, so all commands share a connection.
            "ControlMaster": "auto",
            "ControlPath": str(self.folder / "ssh"),
            "ControlPersist": "60",
        }
        given = (part for key, value in options.items() for part in ("-o", f"{key}={value}"))
        return [
            "ssh",
            "-F",
            "/dev/null",
            "-i",
            str(self.ssh_key),
            *given,
            f"{self.metadata.administrator}@{self.address}",
        ]

    def try_run(self, command: str) -> str | None:
        """The same; None if it fails."""
        try:
            return self.run(command, seconds=20)
        except GuestError:
            return None

    def await_shell(self, seconds: float = _BOOT_SECONDS) -> None:
        """Wait until its administrator can sign in.

        Raises:
            GuestError: it ended, or nobody can sign in after so many seconds; with the end of its console's log.
        """
        end = time.monotonic() + seconds
        while self.try_run("true") is None:
            if time.monotonic() > end or (self.process and self.process.poll() is not None):
                raise GuestError(f"{self.metadata.host_name}: no shell: {self.said()[-2000:]}")
            # Each attempt costs a booting guest processor time.
            time.sleep(2)

    def said(self) -> str:
        """The console's log, from the first power-on."""
        return self._console.read_text(encoding="utf-8", errors="replace")

    def health(self) -> dict[str, Any]:
        """The answer to the health probe; empty if there is none within 5 s."""
        return health(Host(str(self.address)), seconds=5)

    def journal(self, unit: str) -> str:
        """A unit's journal since the guest booted."""
        return self.run(f"journalctl --boot --output cat --no-pager --unit {unit}")
