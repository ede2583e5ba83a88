"""Values of the configuration that Azure restricts: VM sizes, resource ids, SSH keys, networks, tags."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from components.node_scale_set import MODEL_TAG
from contract.addresses import PRIVATE_BLOCKS

# learn.microsoft.com/azure/virtual-machines/sizes/overview, 2026-11-29: x64, two vCPUs, over 4 GiB, trusted launch,
# premium disks, encryption at host, SCSI. The newer v6 has only NVMe and requires another image. Accelerated
# networking: until 2021 not with two vCPUs; since then D2s_v3 too has AcceleratedNetworkingEnabled in Azure's list of
# SKUs, as in pkg/fake/zz_generated.sku.eastus.go of Azure/karpenter-provider-azure at 556c923, of 2024-01-12.
_VM_SIZES = re.compile(
    r"Standard_(?:"
    r"[DE](?:2|4|8|16|32|48|64)s_v3"
    r"|[DE](?:2|4|8|16|32|48|64)d?s_v4"
    r"|[DE](?:2|4|8|16|32|48|64|96)a?d?s_v5"
    r"|[DE](?:2|4|8|16|32|48|64|96)as_v4"
    r"|F(?:4|8|16|32|48|64|72)s_v2"
    r")"
)
SUBSCRIPTION = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""Pattern of a subscription's id."""
# Azure itself returns the fixed parts in different cases, github.com/Azure/azure-cli/issues/8283.
_GROUP = rf"/(?ai:subscriptions)/{SUBSCRIPTION}/(?ai:resourceGroups)/[\w().-]{{0,89}}[\w()-]/(?ai:providers)"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9])?"
# Not as Pydantic's patterns: its regex engine takes 9 MB for so many `\w`, each with all of Unicode's letters.
# Not a managed image: trusted launch takes none, learn.microsoft.com/azure/virtual-machines/trusted-launch.
_IMAGE_ID = re.compile(
    rf"{_GROUP}/(?ai:Microsoft\.Compute/galleries)/(?![^/]*-){_NAME}/(?ai:images)/{_NAME}"
    # Without its number a new version would roll no VM, and a repaired VM would get it.
    r"/(?ai:versions)/[0-9]{1,10}\.[0-9]{1,10}\.[0-9]{1,10}"
)
_CIRCUIT_ID = re.compile(
    rf"{_GROUP}/(?ai:Microsoft\.Network/expressRouteCircuits)/[A-Za-z0-9](?:[A-Za-z0-9_.-]{{0,78}}[A-Za-z0-9_])?"
)

_APPLICATION_RANGES = [IPv4Network(each) for each in (*PRIVATE_BLOCKS, "100.64.0.0/10")]
MAX_APPLICATION_NETWORKS = 100
"""Each one is a source in every rule of the applications."""

OWN_TAGS = ("bank", "project", "managed-by")
"""Names of the tags that the program sets on every taggable resource; on scale sets `MODEL_TAG` too."""
MAX_TAGS = 15 - len(OWN_TAGS)
"""Most tags in the configuration. A secret of Key Vault has at most 15 tags, the fewest of all resources:
learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates."""
# Storage accounts have the shortest names, learn.microsoft.com/azure/azure-resource-manager/management/tag-resources.
_MAX_TAG_NAME, _MAX_TAG_VALUE = 128, 256
_RESERVED_TAG = re.compile(r"(?i)(microsoft|azure|windows)")
_NO_TAG_NAME = re.compile(r"[<>%&\\?/]")

MIN_RSA_BITS = 3072
"""Fewest bits of an administrator's RSA key."""


def check_vm_size(name: str) -> str:
    """Check that a ledger node can run on a VM size, and return its name.

    Raises:
        ValueError: Azure has no such size, or it is too small, of another architecture or without premium disks.
    """
    if not _VM_SIZES.fullmatch(name):
        raise ValueError(
            "wanted a size of the series Ds, Es or Fs, v3 to v5 (F: v2), such as Standard_D4s_v5; "
            "x64, two vCPUs or more, more than 4 GiB, premium disks"
        )
    return name


def check_image_id(text: str) -> str:
    """Check the resource id of an image of a compute gallery, or of one version of it, and return it.

    Raises:
        ValueError: not such a resource id.
    """
    return _check_id(text, _IMAGE_ID, "Compute/galleries/GALLERY/images/NAME/versions/1.0.0")


def check_circuit_id(text: str) -> str:
    """Check the resource id of an ExpressRoute circuit, and return it.

    Raises:
        ValueError: not such a resource id.
    """
    return _check_id(text, _CIRCUIT_ID, "Network/expressRouteCircuits/NAME")


def _check_id(text: str, wanted: re.Pattern[str], example: str) -> str:
    if not wanted.fullmatch(text):
        raise ValueError(f"wanted /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.{example}")
    return text


def check_ssh_public_key(text: str) -> str:
    """Check one OpenSSH public key of a type that Azure accepts, and return it without surrounding white space.

    Raises:
        ValueError: not one such key: Ed25519, or RSA of `MIN_RSA_BITS` or more.
    """
    text = text.strip()
    key = None
    # Keys of security devices, which Azure refuses, begin with sk-.
    if text.startswith(("ssh-ed25519 ", "ssh-rsa ")) and len(text.splitlines()) == 1:
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            key = load_ssh_public_key(text.encode())
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS):
        return text
    raise ValueError(f"wanted one OpenSSH public key: ssh-ed25519, or ssh-rsa of {MIN_RSA_BITS} bits or more")


def check_application_network(network: IPv4Network) -> IPv4Network:
    """Check a network of the bank's own applications, and return it.

    Raises:
        ValueError: it is not private (RFC 1918, RFC 6598), or larger than a /8.
    """
    if network.prefixlen < 8:
        raise ValueError("wanted a /8 or smaller: RPC is for the bank's own applications, not for everyone")
    if not any(network.subnet_of(each) for each in _APPLICATION_RANGES):
        raise ValueError(f"wanted a block of {', '.join(str(each) for each in _APPLICATION_RANGES)}")
    return network


def wrong_tags(tags: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    """Mistakes in tags that some resource of the program refuses: (tag's name or None for all, what was wanted)."""
    if len(tags) > MAX_TAGS:
        yield None, f"{len(tags)} tags; wanted {MAX_TAGS} at most: a secret takes 15, three of them the program's"
    folded = [name.casefold() for name in tags]
    for name, value in tags.items():
        if not 0 < len(name) <= _MAX_TAG_NAME or _NO_TAG_NAME.search(name) or not _plain(name):
            yield name, f"wanted a name of 1 to {_MAX_TAG_NAME} printable ASCII characters, none of <>%&\\?/"
        elif _RESERVED_TAG.match(name):
            yield name, "wanted a name that does not begin with microsoft, azure or windows"
        elif name.casefold() in {own.casefold() for own in (*OWN_TAGS, MODEL_TAG)}:
            yield name, "wanted another name: the program sets that one"
        elif folded.index(name.casefold()) < [*tags].index(name):
            yield name, "wanted each name once: Azure's have no upper and lower case"
        if len(value) > _MAX_TAG_VALUE:
            yield name, f"{len(value)} characters; wanted {_MAX_TAG_VALUE} at most"
        elif not _plain(value):
            yield name, "wanted printable ASCII characters, no space before or after them"


def _plain(text: str) -> bool:
    # Tags of other characters may keep a VM from reading its metadata, and so its tokens: same page.
    return text.isascii() and text.isprintable() and text == text.strip()
