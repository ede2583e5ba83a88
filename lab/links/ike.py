"""A tunnel's end: strongSwan's daemon as one side's plan configures it, in a separate namespace.

In user space, since a kernel may lack a policy's algorithms. A daemon has one TUN device: hence one a tunnel.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from contract.card import IpsecPolicy
from lab.banks.process import until
from lab.namespaces import Namespace

CHARON, SWANCTL = Path("/usr/lib/ipsec/charon"), Path("/usr/sbin/swanctl")

_CIPHERS = {
    "GCMAES256": "aes256gcm16",
    "GCMAES128": "aes128gcm16",
    "AES256": "aes256",
    "AES192": "aes192",
    "AES128": "aes128",
}
_GROUPS = {"ECP384": "ecp384", "ECP256": "ecp256", "24": "modp2048s256", "14": "modp2048"}
_PLUGINS = (
    "random nonce aes sha2 hmac gcm openssl pem pkcs1 x509 constraints pubkey kdf kernel-libipsec kernel-netlink "
    "socket-default vici updown"
)
_IKE_SECONDS = 28_800
"""Azure's lifetimes, of every policy: learn.microsoft.com/azure/vpn-gateway/vpn-gateway-about-vpn-devices."""
_PROBE_SECONDS, _PROBE_TRIES = 10, 7


def ike_proposal(policy: IpsecPolicy) -> str:
    """The IKE proposal in strongSwan's syntax. An AEAD cipher requires an explicit PRF.

    Raises:
        ValueError: IKEv2 has no such proposal.
    """
    if policy.ike_integrity.startswith("GCM"):
        raise ValueError(f"ikeIntegrity {policy.ike_integrity} names no hash function; wanted SHA384 or SHA256")
    prf = "prf" if policy.ike_encryption.startswith("GCM") else ""
    return f"{_CIPHERS[policy.ike_encryption]}-{prf}{policy.ike_integrity.lower()}-{_group(policy.dh_group)}"


def esp_proposal(policy: IpsecPolicy) -> str:
    """The ESP proposal in strongSwan's syntax."""
    parts = [_CIPHERS[policy.ipsec_encryption]]
    if policy.ipsec_integrity != policy.ipsec_encryption:
        parts.append(policy.ipsec_integrity.lower())
    return "-".join([*parts, _group(policy.pfs_group)])


def _group(name: str) -> str:
    return _GROUPS[name.removeprefix("DHGroup").removeprefix("PFS")]


@dataclass(frozen=True)
class TunnelEnd:
    """One side's configuration of a tunnel."""

    local: IPv4Address
    remote: IPv4Address
    key: str
    policy: IpsecPolicy
    dead_peer_seconds: int

    def connection(self, updown: Path) -> str:
        """The configuration as swanctl.conf, with one setting a line."""
        policy = self.policy
        return f"""\
connections {{
  peer {{
    version = 2
    local_addrs = {self.local}
    remote_addrs = {self.remote}
    proposals = {ike_proposal(policy)}
    rekey_time = {_IKE_SECONDS}s
    dpd_delay = {_PROBE_SECONDS}s
    keyingtries = 0
    unique = replace
    encap = yes
    mobike = no
    local {{
      auth = psk
      id = {self.local}
    }}
    remote {{
      auth = psk
      id = {self.remote}
    }}
    children {{
      net {{
        local_ts = 0.0.0.0/0
        remote_ts = 0.0.0.0/0
        esp_proposals = {esp_proposal(policy)}
        life_time = {policy.sa_life_time_seconds}s
        life_bytes = {policy.sa_data_size_kilobytes * 1024}
        dpd_action = restart
        updown = {updown}
      }}
    }}
  }}
}}
secrets {{
  ike-peer {{
    id-a = {self.local}
    id-b = {self.remote}
    secret = {self.key}
  }}
}}
"""


@dataclass(frozen=True)
class Association:
    """An established tunnel, as swanctl reports it."""

    ike: str
    """Version, such as `IKEv2`."""
    suite: str
    """Algorithms of IKE, such as `AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384`."""
    tunnel: str
    """Algorithms of the tunnel, such as `AES_GCM_16-256`, with a group once its keys were renewed."""


class Charon:
    """The daemon at a tunnel's end."""

    def __init__(self, namespace: Namespace, folder: Path, end: TunnelEnd, updown: str) -> None:
        """Start the daemon.

        Args:
            namespace: where.
            folder: its own.
            end: what it knows first.
            updown: a shell script that runs when the tunnel comes up and goes down, see `PLUTO_VERB`.
        """
        self._namespace, self._folder = namespace, folder
        self._script = folder / "updown"
        self._script.write_text(f"#!/bin/sh\n{updown}", encoding="ascii")
        self._script.chmod(0o700)
        settings = folder / "strongswan.conf"
        settings.write_text(_settings(folder / "vici", end.dead_peer_seconds), encoding="ascii")
        self._environment = {"STRONGSWAN_CONF": str(settings)}
        # AppArmor profiles of strongSwan's packages bind these paths to /etc and /run: a copy has no profile.
        charon, self._program = (shutil.copy(each, folder) for each in (CHARON, SWANCTL))
        # Each daemon has a private /run, where its pid file is.
        namespace.start(
            *("unshare", "--mount", "sh", "-c", f"mount -t tmpfs tmpfs /run && exec {charon}"),
            log=folder / "log",
            **self._environment,
        )
        until((folder / "vici").exists, 20, f"{namespace.name}: charon")
        self._load(end)

    def apply(self, end: TunnelEnd) -> None:
        """Apply a changed connection, as a gateway does: an established tunnel ends."""
        self._load(end)
        self._swanctl("--terminate", "--ike", "peer", "--force")

    def initiate(self) -> None:
        """Try to establish the tunnel, in the background."""
        self._swanctl("--initiate", "--child", "net", "--timeout", "1")

    def renew(self) -> None:
        """Renew the tunnel's keys."""
        self._swanctl("--rekey", "--child", "net")

    @property
    def association(self) -> Association | None:
        """The established tunnel; None if there is none."""
        said = self._swanctl("--list-sas")
        ike = re.search(r"ESTABLISHED, (IKEv\d),.*?\n +(AES\S+)\n", said, re.DOTALL)
        tunnel = re.search(r"INSTALLED, TUNNEL\S*, ESP:(\S+)", said)
        return Association(ike[1], ike[2], tunnel[1]) if ike and tunnel else None

    def _load(self, end: TunnelEnd) -> None:
        file = self._folder / "swanctl.conf"
        file.touch(mode=0o600)
        file.write_text(end.connection(self._script), encoding="ascii")
        self._swanctl("--load-all", "--clear", "--file", str(file))

    def _swanctl(self, *command: str) -> str:
        done = subprocess.run(
            [self._program, *command, "--uri", f"unix://{self._folder}/vici"],
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout


def _settings(socket: Path, dead_peer_seconds: int) -> str:
    # Dead peer detection: a probe is sent after this time without traffic, then repeated.
    wait = (dead_peer_seconds - _PROBE_SECONDS) / _PROBE_TRIES
    return f"""\
charon {{
  load = {_PLUGINS}
  install_routes = no
  retransmit_base = 1
  retransmit_timeout = {wait}
  retransmit_tries = {_PROBE_TRIES - 1}
  plugins {{
    vici {{
      socket = unix://{socket}
    }}
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
  }}
}}
"""
