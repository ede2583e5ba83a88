"""The `az` commands of the documents exist in Azure's CLI, with their options."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import ROOT

COMMANDS = {
    "account set": "subscription",
    "ad app federated-credential create": "id parameters",
    "ad sp show": "id",
    "disk list": "resource-group",
    "feature register": "name namespace",
    "group create": "location name",
    "identity list": "resource-group",
    "keyvault list": "resource-group",
    "keyvault key list-deleted": "vault-name",
    "keyvault key recover": "name vault-name",
    "keyvault purge": "name",
    "keyvault recover": "name",
    "keyvault secret list-deleted": "vault-name",
    "keyvault secret list-versions": "name vault-name",
    "keyvault secret recover": "name vault-name",
    "keyvault secret show": "name vault-name",
    "keyvault secret set": "name tags value vault-name",
    "keyvault secret set-attributes": "id name tags vault-name version",
    "login": "",
    "monitor activity-log list": "max-events offset resource-group resource-id",
    "monitor data-collection rule association create": "name resource rule-id",
    "monitor log-analytics query": "analytics-query workspace",
    "monitor log-analytics workspace update": "name quota resource-group",
    "monitor metrics list": "interval metric offset resource",
    "monitor scheduled-query list": "resource-group",
    "network express-route list-route-tables": "name path peering-name resource-group",
    "network nic update": "ids network-security-group",
    "network nsg create": "name resource-group",
    "network nsg list": "resource-group",
    "network nsg rule create": "access destination-address-prefixes destination-port-ranges direction name nsg-name"
    " priority protocol resource-group source-address-prefixes",
    "network nsg rule delete": "name nsg-name resource-group",
    "network vnet-gateway list": "resource-group",
    "network vnet-gateway list-bgp-peer-status": "name resource-group",
    "network vnet-gateway list-learned-routes": "name resource-group",
    "network vpn-connection show": "name resource-group",
    "postgres flexible-server geo-restore": "geo-redundant-backup location name private-dns-zone resource-group"
    " source-server subnet vnet",
    "postgres flexible-server list": "resource-group",
    "postgres flexible-server microsoft-entra-admin list": "",
    "postgres flexible-server restart": "failover name resource-group",
    "postgres flexible-server restore": "geo-redundant-backup name resource-group restore-time source-server",
    "postgres flexible-server show": "name resource-group",
    "postgres flexible-server update": "admin-password name resource-group storage-size",
    "postgres flexible-server upgrade": "name resource-group version",
    "provider register": "namespace",
    "resource list": "resource-group",
    "role assignment delete": "ids",
    "role assignment list": "all assignee",
    "sig create": "gallery-name resource-group",
    "sig image-definition create": "features gallery-image-definition gallery-name hyper-v-generation offer os-state"
    " os-type publisher resource-group sku",
    "snapshot create": "name resource-group source",
    "storage account list": "resource-group",
    "storage blob copy start": "account-name auth-mode destination-blob destination-container source-uri",
    "storage blob download": "account-name auth-mode container-name file name version-id",
    "storage blob list": "account-name auth-mode container-name include prefix",
    "storage blob upload": "account-name auth-mode container-name file name overwrite",
    "storage container list": "account-name auth-mode include-deleted",
    "storage container restore": "account-name auth-mode deleted-version name",
    "vm boot-diagnostics get-boot-log": "name resource-group",
    "vm deallocate": "ids",
    "vm get-instance-view": "name resource-group",
    "vm list": "resource-group show-details",
    "vm run-command invoke": "command-id name resource-group scripts",
    "vm show": "name resource-group",
    "vmss delete-instances": "instance-ids name resource-group",
    "vmss list": "resource-group",
    "vmss rolling-upgrade get-latest": "name resource-group",
    "vmss set-orchestration-service-state": "action name resource-group service-name",
    "vmss show": "name resource-group",
}
"""Each command and those of its options that are used: parsed by Azure CLI 2.91.0 on 2026-11-29 or 2026-12-01.

It parsed them up to its sign-in, except those of its extensions, which learn.microsoft.com/cli/azure/monitor has:
`monitor data-collection rule association create`, `monitor log-analytics query` and `monitor scheduled-query list`.
"""
GLOBAL = {"output", "query"}
_OF_PARTS = [ROOT / part / "README.md" for part in ("agent", "image")]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *_OF_PARTS, *sorted((ROOT / "docs").rglob("*.md"))]

_QUOTED = re.compile(r"'[^']*'|\"[^\"$]*\"")
_NESTED = re.compile(r"\$\(([^()]*)\)")
_COMMAND = re.compile(r"\baz ((?:[a-z][a-z-]+ ?)+)([^|>;]*)")


def commands(document: Path) -> Iterator[tuple[str, set[str]]]:
    """Each `az` command of a document, with the names of its options."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    spans = re.findall(r"`(az [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for each in [*lines, *(" ".join(span.split()) for span in spans)]:
        # Quoted text has no option of the command.
        line = _QUOTED.sub("X", each)
        while nested := _NESTED.search(line):
            yield from _named(nested[1])
            line = line.replace(nested[0], "X")
        yield from _named(line)


def _named(line: str) -> Iterator[tuple[str, set[str]]]:
    for name, rest in _COMMAND.findall(line):
        yield name.strip(), set(re.findall(r"--([a-z-]+)", rest))


USED = [(document, *each) for document in DOCUMENTS for each in commands(document)]


@pytest.mark.parametrize(
    ("document", "name", "options"), USED, ids=[f"{document.stem}-{name}" for document, name, _ in USED]
)
def test_each_command_has_its_options(document: Path, name: str, options: set[str]) -> None:
    assert name in COMMANDS, f"{document.name}: az {name} is in no table; have the CLI parse it, then add it"
    unknown = options - set(COMMANDS[name].split()) - GLOBAL
    assert not unknown, f"{document.name}: az {name}: {sorted(unknown)}: have the CLI parse it, then add it"


def test_the_table_has_exactly_the_used_commands() -> None:
    used = {name: set[str]() for _, name, _ in USED}
    for _, name, options in USED:
        used[name] |= options - GLOBAL
    known = {name: set(options.split()) for name, options in COMMANDS.items()}
    assert used == known, "an unused entry would go stale"
