"""The disk that guests start from: Debian, with Ubuntu's packages; built once, outside of the checkout.

It has the kernel, systemd, cloud-init and a Python 3.12, and trusts one more certificate authority. Nothing of the
project is on it: that comes by custom data, user data and the packages that these name.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trustme

from delivery.cloud_config import UBUNTU_PACKAGES
from delivery.lock import PYTHON, target_options
from lab import ROOT
from lab.banks.cache import cached
from lab.banks.process import exclusive

MIRROR = "mirror.internal"
"""The host of the guests' package mirror."""
HELPER = "aznfs.deb"
"""The mirror's package with the stand-in of Azure's mount helper."""
_HERE = Path(__file__).parent
_GUEST_COMMANDS = ("mount.aznfs", "waagent")
"""Stand-ins for Azure's own programs."""
_MAKING = _HERE / "making"
"""Stand-ins for commands that a bank's image is built with."""
_REQUIREMENTS = ROOT / "delivery" / "requirements.txt"
_LOCKED = (_REQUIREMENTS, ROOT / "delivery" / "lock.py")
"""Locked requirements, and the Python version and platform of their wheels."""
_SHARED_FOLDERS = "ganesha/libfsalvfs.so"
"""Library of `nfs-ganesha-vfs`, without which Ganesha serves no folder."""
_PROGRAM_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "genisoimage": "genisoimage",
    "dnsmasq": "dnsmasq-base",
    "ganesha.nfsd": "nfs-ganesha-vfs",
    "ssh": "openssh-client",
}
"""Required programs, with their Debian packages."""
_SYSTEM = """
    linux-image-cloud-amd64 systemd-sysv systemd-resolved udev dbus netplan.io isc-dhcp-client iproute2 netbase procps
    lz4 e2fsprogs cloud-init sudo openssh-server ca-certificates curl nfs-common
""".split()
"""Packages of Ubuntu's image that a boot uses."""
_OFFERED = "python3-venv nftables python3".split()
"""Packages of the mirror, which custom data installs."""
_BASE_SUITE, _JAVA_SUITE = "trixie", "sid"
"""Debian has Java 8 in the second only, which requires a newer C library than Debian 12's: the first has it."""
_JAVA = "openjdk-8-jdk-headless"
_HELPER_CONTROL = """Package: aznfs
Version: 1
Architecture: all
Maintainer: nobody
Description: stands in for Azure's mount helper
"""
_LEFT_OUT = shutil.ignore_patterns("test", "idlelib", "turtledemo", "config-*", "site-packages", "*.a")
_DISK_GIGABYTES = 6
_SEARCH_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNUSED_SECONDS = 7 * 86_400


@dataclass(frozen=True)
class Image:
    """The files that a guest starts from."""

    folder: Path

    @property
    def disk(self) -> Path:
        """Raw disk image, never modified."""
        return self.folder / "disk.raw"

    @property
    def warm_disk(self) -> Path:
        """The guest's disk with the wheels installed, which takes minutes."""
        return self.folder / "warm.raw"

    @property
    def kernel(self) -> Path:
        """Kernel, started without a boot loader."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Initial RAM disk."""
        return self.folder / "initrd"

    @property
    def root(self) -> Path:
        """The files of a disk that a bank's image is made of, see `java_image`."""
        return self.folder / "root"

    @property
    def packages(self) -> Path:
        """An apt repository."""
        return self.folder / "packages"

    @property
    def authority(self) -> trustme.CA:
        """The certificate authority that guests trust."""
        return trustme.CA.from_pem(
            (self.folder / "authority.pem").read_bytes(), (self.folder / "authority.key").read_bytes()
        )


def missing() -> str | None:
    """Why no guest can boot here; None if one can."""
    if os.geteuid() != 0:
        return "not root, who alone makes a guest's disk and network"
    lacking = {package for program, package in _PROGRAM_PACKAGES.items() if not shutil.which(program)}
    if not any(Path("/usr/lib").glob(f"*/{_SHARED_FOLDERS}")):
        lacking.add(_PROGRAM_PACKAGES["ganesha.nfsd"])
    if lacking:
        return f"no {', '.join(sorted(lacking))} here; wanted them from Debian's packages"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun here; wanted it for a guest's network"
    if (found := platform.freedesktop_os_release()["ID"]) != "debian":
        return f"{found} here; wanted Debian, whose packages a guest is made of"
    if _python() is None:
        return f"no Python {PYTHON} here outside of /usr; wanted one to copy into the guest"
    return None


@cache
def _python() -> Path | None:
    """The prefix of a Python of the VMs' version, which can be copied."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{PYTHON}.*/bin/python"))
    for each in (os.environ.get("PYTHON312"), shutil.which(f"python{PYTHON}"), *installed):
        asked = (str(each), "-c", "import sys; print(sys.base_prefix)")
        found = subprocess.run(asked, capture_output=True, text=True, check=False) if each else None
        # pyenv has a shim on PATH for a Python that it has not chosen.
        if found and found.returncode == 0 and (prefix := Path(found.stdout.strip())) != Path("/usr"):
            return prefix
    return None


def image() -> Image:
    """The image, built if there is none, in some minutes. Call it only if `missing()` is None."""
    return _image("guest", _make)


def java_image() -> Image:
    """An image of a newer Debian with Java 8, which has its `root` in place of disks; built like `image`.

    Raises:
        subprocess.CalledProcessError: Debian does not have both.
    """
    return _image("java", _make_with_java)


def _image(name: str, make: Callable[[Path], None]) -> Image:
    folder = cached() / f"{name}-{_digest(Path(__file__), *(_HERE / each for each in _GUEST_COMMANDS), *_LOCKED)}"
    with exclusive(cached() / f"{name}.lock"):
        if not folder.exists():
            _forget(f"{name}-")
            with _unfinished() as made:
                make(made)
                made.rename(folder)
    os.utime(folder)
    return Image(folder)


def bank_disk(made: Image, files: bytes, install: Sequence[str], artifacts: Iterable[Path], folder: Path) -> Path:
    """A raw disk that a VM of a bank's own image starts from, built without a guest in a minute.

    Args:
        made: as `java_image` returns it.
        files: the tar archive that an image's recipe unpacks.
        install: the arguments of `install.sh`.
        artifacts: jars that Maven would fetch, by their names.
        folder: where the disk is built.

    Raises:
        RuntimeError: `install.sh` fails; the message has the end of its output.
    """
    root, disk = folder / "root", folder / "disk.raw"
    subprocess.run(["cp", "--archive", "--reflink=auto", str(made.root), str(root)], check=True)
    aside = root / "srv"
    (aside / "artifacts").mkdir()
    for each in artifacts:
        shutil.copy(each, aside / "artifacts")
    shutil.copytree(wheels(), aside / "wheels")
    shutil.copytree(_MAKING, aside / "bin")
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(root, filter="tar")
    environment = {
        "PATH": f"/srv/bin:{_SEARCH_PATH}",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/srv/wheels",
        "SYSTEMD_OFFLINE": "1",
    }
    within = 'mount -t proc proc "$0/proc" && exec chroot "$0" /opt/decentralized-trust/install.sh "$@"'
    command = ["unshare", "--mount", "sh", "-c", within, str(root), *install]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"install.sh: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    for each in aside.iterdir():
        shutil.rmtree(each)
    _write(root, disk)
    shutil.rmtree(root)
    return disk


def wheels() -> Path:
    """A folder with the wheels that VMs install, by their hashes; downloaded once by this machine's pip."""
    folder = cached() / f"wheels-{_digest(*_LOCKED)}"
    with exclusive(cached() / "wheels.lock"):
        if not folder.exists():
            _forget("wheels-")
            with _unfinished() as made:
                subprocess.run(
                    [
                        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                        *("--no-deps", "--require-hashes", "--requirement", str(_REQUIREMENTS), "--dest", str(made)),
                        *target_options(),
                    ],
                    check=True,
                )
                made.rename(folder)
    os.utime(folder)
    return folder


def _digest(*made_of: Path) -> str:
    """Changes with these files, and with this machine's release of Debian."""
    content = b"".join(path.read_bytes() for path in made_of)
    return hashlib.sha256(content + _suite().encode()).hexdigest()[:16]


def _suite() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _forget(prefix: str) -> None:
    for old in cached().glob(f"{prefix}*[0-9a-f]"):
        # A newer one may be in use by another checkout.
        if time.time() - old.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(old)


@contextmanager
def _unfinished() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=cached()) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        yield made


def _make(made: Path) -> None:
    root, packages = made.parent / "root", made / "packages"
    fetch = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qqd -o Dir::Cache::archives="$1/srv/" install'
    hooks = ('mkdir "$1/srv/partial"', f"{fetch} {' '.join(_OFFERED)}")
    _install_debian(root, _SYSTEM, _suite(), _sources(), *(f"--customize-hook={each}" for each in hooks))
    packages.mkdir()
    for package in (root / "srv").glob("*.deb"):
        package.rename(packages / package.name)
    _pack_helper(made.parent / "helper", packages / HELPER)
    (packages / "Packages").write_text("".join(_indexed(path) for path in sorted(packages.glob("*.deb"))))
    _complete(root, made)
    _write(root, made / "disk.raw")
    _install_wheels(root)
    _write(root, made / "warm.raw")


def _make_with_java(made: Path) -> None:
    root = made / "root"
    pin = f"Package: *\nPin: release n={_JAVA_SUITE}\nPin-Priority: 100\n"
    preferences = f"mkdir -p $1/etc/apt/preferences.d && printf '{pin}' >$1/etc/apt/preferences.d/lab"
    packages, archive = (*_SYSTEM, *UBUNTU_PACKAGES, _JAVA), _archive()
    sources = [f"deb {archive} {suite} main" for suite in (_BASE_SUITE, _JAVA_SUITE)]
    _install_debian(root, packages, _BASE_SUITE, sources, f"--setup-hook={preferences}")
    (made / "packages").mkdir()
    _complete(root, made)


def _install_debian(root: Path, packages: Sequence[str], suite: str, sources: Sequence[str], *options: str) -> None:
    # A kernel's first files need only this machine's drivers.
    few = 'cd "$1/etc" && mkdir -p initramfs-tools/conf.d && echo MODULES=list COMPRESS=lz4 | tr " " "\\n" '
    few += '>initramfs-tools/conf.d/lab && echo virtio_pci virtio_blk ext4 | tr " " "\\n" >>initramfs-tools/modules'
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", f"--include={','.join(packages)}"),
            *(f"--aptopt={path}" for path in sorted(Path("/etc/apt/apt.conf.d").glob("*")) if _of_network(path)),
            *(f"--essential-hook={few}", *options),
            *(suite, str(root), *sources),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _complete(root: Path, made: Path) -> None:
    """Add what is the lab's to Debian, and copy its kernel."""
    _add_python(root)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made / "authority.pem")
    authority.private_key_pem.write_to_path(made / "authority.key")
    for path, text in _files(authority).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for name in _GUEST_COMMANDS:
        shutil.copy(_HERE / name, root / "usr" / "sbin")
    for command in ("ldconfig", "update-ca-certificates"):
        subprocess.run(["chroot", str(root), command], check=True, capture_output=True)
    for kind, name in (("vmlinuz", "vmlinuz"), ("initrd.img", "initrd")):
        (found,) = (root / "boot").glob(f"{kind}-*")
        shutil.copy(found, made / name)


def _pack_helper(folder: Path, package: Path) -> None:
    control = folder / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(_HELPER_CONTROL, encoding="utf-8")
    (folder / "usr" / "sbin").mkdir(parents=True)
    shutil.copy(_HERE / "mount.aznfs", folder / "usr" / "sbin")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(folder), str(package)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _write(root: Path, disk: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(_DISK_GIGABYTES << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(root), str(disk)], check=True)


def _install_wheels(root: Path) -> None:
    """Install the wheels, as `delivery/install.sh` does."""
    prefix, folder = "/opt/decentralized-trust", root / "srv" / "wheels"
    shutil.copytree(wheels(), folder)
    shutil.copy(_REQUIREMENTS, folder)
    options = (
        "--quiet --disable-pip-version-check --no-cache-dir --no-index --find-links /srv/wheels --require-hashes"
    )
    for command in (
        f"python3 -m venv {prefix}/venv",
        f"{prefix}/venv/bin/pip install {options} --requirement /srv/wheels/{_REQUIREMENTS.name}",
    ):
        # Without this machine's pip configuration, and without the guest's mirror, which only a guest reaches.
        environment = {"PATH": _SEARCH_PATH, "PIP_CONFIG_FILE": "/dev/null"}
        subprocess.run(["chroot", str(root), *command.split()], check=True, env=environment)
    shutil.rmtree(folder)


def _of_network(path: Path) -> bool:
    return "Acquire::" in path.read_text(encoding="utf-8")


def _sources() -> list[str]:
    """This machine's apt sources of Debian's own packages."""
    sources = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
    return [str(path) for path in sources if path.is_file() and path.read_text(encoding="utf-8").strip()]


def _archive() -> str:
    """Where this machine's apt finds its release of Debian, and so others."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Identifier: Packages")
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return next(uri for uri, name in map(str.split, listed) if name == _suite())


def _indexed(path: Path) -> str:
    fields = subprocess.run(["dpkg-deb", "--field", str(path)], capture_output=True, text=True, check=True).stdout
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{fields}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {sha256}\n\n"


def _add_python(root: Path) -> None:
    """Copy a Python of the VMs' version to a folder that comes before the system's in PATH."""
    prefix, own = _python(), root / "usr" / "local"
    assert prefix
    (own / "bin" / f"python{PYTHON}").unlink(missing_ok=True)
    shutil.copy(prefix / "bin" / f"python{PYTHON}", own / "bin")
    (own / "bin" / "python3").symlink_to(f"python{PYTHON}")
    for path in (prefix / "lib").glob(f"libpython{PYTHON}.so*"):
        shutil.copy(path, own / "lib")
    shutil.copytree(
        prefix / "lib" / f"python{PYTHON}", own / "lib" / f"python{PYTHON}", ignore=_LEFT_OUT, symlinks=True
    )


def _files(authority: trustme.CA) -> dict[str, str]:
    return {
        "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
        "etc/cloud/cloud.cfg.d/90-azure.cfg": "datasource_list: [Azure]\nlocale: false\n",
        # Reading all of Debian's trust roots takes a guest seconds for each connection.
        "etc/ca-certificates.conf": "",
        "etc/apt/sources.list": f"deb [trusted=yes] http://{MIRROR}/packages ./\n",
        "etc/pip.conf": f"[global]\nno-index = true\nfind-links = http://{MIRROR}/wheels/\ntrusted-host = {MIRROR}\n",
        "usr/local/share/ca-certificates/lab.crt": authority.cert_pem.bytes().decode(),
    }
