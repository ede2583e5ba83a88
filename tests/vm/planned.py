"""A stack with the stand-in platform, whose sources its VMs get like any other platform's."""

import base64
import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any
from unittest.mock import patch

from contract.authority_configuration import AuthorityConfiguration
from contract.vm_configuration import AGENT_FILE, AUTHORITY_FILE, AgentConfiguration
from delivery import cloud_config, sources
from delivery.bundle import bundle
from delivery.sources import every_file
from lab import ROOT
from lab.azure.program import StackConfiguration
from lab.banks.corda import NODE_OPTIONS
from lab.echo import ECHO
from ledger import PLATFORMS
from ledger.corda import CORDA
from tests.configuration import configuration
from tests.delivered import files_of_document
from tests.runs import Plan, all_of, one, planned

IDENTITY = "node-1"
_ADDED = ("lab/__init__.py", "lab/echo.py")
_KNOWN = "\nfrom lab.echo import ECHO\n\nPLATFORMS[ECHO.name] = ECHO\n"


@dataclass(frozen=True)
class Delivered:
    """What Azure passes to the node VMs."""

    custom_data: str
    user_data: str
    profile: Mapping[str, Any]
    """The scale set's `osProfile`."""
    subnet: IPv4Network
    secrets: Mapping[str, Mapping[str, str]]
    """What the stack writes into its vaults, by their hosts."""
    authority: AuthorityConfiguration | None
    """Of the VMs of the bank's network authority."""
    database_subnet: IPv4Network | None

    @property
    def document(self) -> str:
        """The cloud-init document."""
        return _document(self.custom_data)

    @property
    def files(self) -> dict[str, str]:
        """Files that cloud-init writes, by path; without binary files."""
        return files_of_document(self.document)

    @property
    def configuration(self) -> AgentConfiguration:
        return AgentConfiguration.model_validate_json(self.files[str(AGENT_FILE)])

    @property
    def share_source(self) -> str:
        return self.files["/etc/decentralized-trust/share.env"].strip().partition("=")[2]


@contextmanager
def with_stand_in_platform() -> Iterator[None]:
    """Make the stand-in a platform of the program, whose sources VMs get."""
    of_vm, of_image = sources.files_of, sources.every_file

    def completed(files: Mapping[str, str]) -> dict[str, str]:
        added = {path: (ROOT / path).read_text(encoding="utf-8") for path in _ADDED}
        return {**files, **added, "ledger/__init__.py": files["ledger/__init__.py"] + _KNOWN}

    sources.packed.cache_clear()
    try:
        with (
            patch.dict(PLATFORMS, {ECHO.name: ECHO}),
            patch.object(sources, "files_of", lambda *of: completed(of_vm(*of))),
            patch.object(cloud_config, "every_file", lambda: completed(of_image())),
        ):
            yield
    finally:
        sources.packed.cache_clear()


def delivered(ssh_public_key: str, image: str | None = None) -> Delivered:
    """The smallest bank's plan.

    Args:
        ssh_public_key: the administrator's.
        image: resource id of the bank's own image; None: its VMs start from Ubuntu's.
    """
    nodes = {"sshPublicKey": ssh_public_key, **({"image": {"id": image}} if image else {})}
    with with_stand_in_platform():
        plan = planned(
            StackConfiguration("bank-a", configuration(size="small", nodes=nodes, ledger={"platform": ECHO.name}))
        )
    return _of(plan)


def image_files() -> bytes:
    """The tar archive that an image's recipe unpacks."""
    with with_stand_in_platform():
        return bundle(ECHO.name)


def corda_image_files() -> bytes:
    """The same for Corda, with a time limit and a node's Java options for a VM that is ten times slower."""
    path, files = "ledger/corda/installation.py", every_file()
    for found, changed in {
        "\n_TOOL_SECONDS = 60\n": "\n_TOOL_SECONDS = 600\n",
        '("-XX:+UseG1GC",)': repr(NODE_OPTIONS),
    }.items():
        assert found in files[path], f"{path}: no {found}"
        files[path] = files[path].replace(found, changed)
    with patch.object(cloud_config, "every_file", return_value=files):
        return bundle(CORDA.name)


def certified_by_itself(ssh_public_key: str, image: str) -> Delivered:
    """The plan of a bank that certifies its only Corda node, a notary.

    Args:
        ssh_public_key: the administrator's.
        image: resource id of the bank's own image.
    """
    ledger = {
        "network": {"authority": "bank-a", "approval": "auto"},
        "roles": {IDENTITY: "notary"},
    }
    nodes = {"sshPublicKey": ssh_public_key, "image": {"id": image}}
    changes = configuration(size="small", nodes=nodes, ledger=ledger)
    return _of(planned(StackConfiguration("bank-a", changes)))


def _of(plan: Plan) -> Delivered:
    profile = one(plan, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"]
    subnets = {
        each.name.rpartition("-")[2]: IPv4Network(each.inputs["addressPrefix"]) for each in all_of(plan, "Subnet")
    }
    secrets: dict[str, dict[str, str]] = {}
    for each in all_of(plan, "Secret"):
        vault = secrets.setdefault(f"{each.inputs['vaultName']}.vault.azure.net", {})
        vault[each.inputs["secretName"]] = each.inputs["properties"]["value"]
    return Delivered(
        custom_data=profile["osProfile"]["customData"],
        user_data=profile.get("userData") or "",
        profile=profile["osProfile"],
        subnet=subnets["nodes"],
        secrets=secrets,
        authority=_authority(plan),
        database_subnet=subnets.get("database"),
    )


def _authority(plan: Plan) -> AuthorityConfiguration | None:
    for each in all_of(plan, "VirtualMachineScaleSet"):
        data = each.inputs["virtualMachineProfile"]["osProfile"]["customData"]
        if text := files_of_document(_document(data)).get(str(AUTHORITY_FILE)):
            return AuthorityConfiguration.model_validate_json(text)
    return None


def _document(custom_data: str) -> str:
    return gzip.decompress(base64.b64decode(custom_data)).decode()
