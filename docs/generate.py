"""Writes generated content: the documents' tables, Pulumi.yaml's `config:`, schema, checklist, sample card.

`python -m docs.generate` writes the files that are stale, and names them.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum, StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from components.alerts.events import EVENT_RULES
from components.alerts.logs import QUERY_RULES
from components.alerts.metrics import METRIC_RULES
from components.alerts.rules import SEVERITIES, AlertRule
from components.collected import BLOB_LOGS, DATABASE_LOGS, GATEWAY_LOGS, TABLES, VAULT_LOGS
from components.flows import FLOWS, Flow, PortGroup, Remote, Subnet, Tag, port_groups
from components.log_volume import BYTES, Senders, volumes
from components.workbook import QueryItem, sections
from contract.addresses import AddressPlan, carve
from contract.card import CARD_SCHEMA, LinkKind, card_schema
from contract.egress import port_ranges
from contract.fingerprint import fingerprint
from contract.frontend import NETWORK_INFO, ApplicationPorts, listeners, peer_ports
from contract.identities import identities
from contract.network_info import NETWORK_INFO_SCHEMA
from contract.platform import MAX_IDENTITIES
from cost.bill import Bill
from cost.meters import FREE
from cost.prices import EXACT, REGION, read_price_list
from cost.report import Statement, as_text
from cost.stacks import Terms, bills_of_sizes
from cost.usage import Usage
from docs.blocks import StaleError, table, with_blocks
from lab import ROOT
from lab.azure import rules
from lab.azure.program import PEERS_KEY, Run
from lab.azure.refusals import CASES, Case
from lab.azure.stacks import EXAMPLES, plan_alone
from lab.bank_of_three import EXAMPLE
from ledger.corda import CORDA
from ledger.corda.authority.register import RequestRecord
from ledger.corda.certificates import CHAINS_SCHEMA
from ledger.corda.enrolment import NetworkAnswer
from policy.checklist import render
from stack import outputs
from stack.mistakes import section_of
from stack.regions import REGIONS
from stack.settings import LOCATION_KEY, SIZES, TUNNELS_OF_LINK, HighAvailability, NodesSettings, Settings

README = ROOT / "README.md"
LAB_README = ROOT / "lab" / "azure" / "README.md"
PROJECT_FILE = ROOT / "Pulumi.yaml"
SCHEMA = ROOT / "schemas" / "membership-card.schema.json"
CHECKLIST = ROOT / "docs" / "checklist.md"
ALERTS = ROOT / "docs" / "alerts.md"
NETWORK = ROOT / "docs" / "network.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
OUTPUTS_PAGE = ROOT / "docs" / "outputs.md"
COMPATIBILITY = ROOT / "docs" / "compatibility.md"
COST = ROOT / "docs" / "cost.md"
MONITORING = ROOT / "docs" / "monitoring.md"
SAMPLE_STACK = EXAMPLES / "three-banks" / "Pulumi.bank-c.yaml"
SAMPLE_CARD = EXAMPLES / "three-banks" / "bank-c.json"
SAMPLE_PIN = ROOT / "Pulumi.prod.yaml"
"""Stack file that reads the sample card and so pins its fingerprint; written by hand."""

OUTPUTS: Mapping[str, str] = {
    outputs.CARD_OUTPUT: (
        "the membership card: public, signed, all that a peer needs "
        "([schema](../schemas/membership-card.schema.json)); peers read it by stack reference or as a JSON file"
    ),
    outputs.FINGERPRINT_OUTPUT: "`sha256:` of the key that signs the card; send it to peers out of band",
    outputs.PEER_CARDS_OUTPUT: (
        "counter, generation of the link key and digest of each peer's newest card: an older card is refused, also "
        "after the peer left and joined again"
    ),
    outputs.SERVER_OFFER_OUTPUT: (
        "what the region offered when the database's server was made; a later offer changes no live server"
    ),
    outputs.MADE_WITH_OUTPUT: (
        "settings that the next update may not change, or only in one direction: soft delete, purge protection, "
        "geo-redundant backup, high availability, the CA's generation; and the subscription, the availability zones "
        "and the paired region with which the member was made"
    ),
    outputs.SHARE_OUTPUT: "GiB of the ledger's share: a smaller `ledger.shareGib` is refused",
    outputs.LINKS_OUTPUT: "by peer, the kind of its link: `vnet-to-vnet`, `ipsec` or `express-route`",
    outputs.CONNECTIONS_OUTPUT: "by peer, the names of the VPN connections that are this member's half of the link",
    outputs.MONITORING_OUTPUT: "the workbook's address, and the id by which the workspace is queried (medium, large)",
    outputs.WAITS_FOR_OUTPUT: (
        "what other members and the authority's operators have to do before the nodes take part; "
        "[a query](operations.md#after-pulumi-up) shows whether they have done it"
    ),
    outputs.GROUP_OUTPUT: "resource group that holds everything",
    outputs.RPC_OUTPUT: (
        "where the bank's applications reach its nodes by RPC: the load balancer's address, and the port "
        "that all nodes share"
    ),
}
"""The meaning of each stack output, in the order of the table."""


class Effect(StrEnum):
    """The effect of a changed setting on a live member."""

    IN_PLACE = "in place"
    """Nothing is replaced, and no node stops."""
    ROLLS = "rolls VMs"
    """The nodes' or the authority's VMs are replaced in batches; identities move with them."""
    LINKS = "links down"
    """The gateway or a connection changes: peers are unreachable for minutes, or until they have changed too."""
    RESTARTS_NODES = "restarts nodes"
    """Each node restarts by itself, at a random time."""
    RESTARTS_DATABASE = "restarts database"
    """The database's server restarts: the nodes wait until it is back."""
    NEVER = "never"
    """The change is refused."""


EFFECTS: Mapping[str, Effect] = {
    LOCATION_KEY: Effect.NEVER,
    "size": Effect.ROLLS,
    "nodes": Effect.ROLLS,
    "bank": Effect.NEVER,
    "bank.asn": Effect.LINKS,
    "bank.cardCounter": Effect.IN_PLACE,
    "addressSpace": Effect.NEVER,
    "ledger": Effect.ROLLS,
    "ledger.applicationPorts": Effect.IN_PLACE,
    "ledger.rpcUsers": Effect.RESTARTS_NODES,
    "ledger.shareGib": Effect.IN_PLACE,
    "ledger.network.rootOpenUntil": Effect.IN_PLACE,
    "connectivity": Effect.LINKS,
    "gatewayReaders": Effect.IN_PLACE,
    "expressRouteAuthorizationKey": Effect.LINKS,
    "peers": Effect.LINKS,
    "peers[].legalName": Effect.IN_PLACE,
    "peers[].stack": Effect.IN_PLACE,
    "peers[].card": Effect.IN_PLACE,
    "peers[].fingerprint": Effect.IN_PLACE,
    "applicationNetworks": Effect.IN_PLACE,
    "operators": Effect.IN_PLACE,
    "alerts": Effect.IN_PLACE,
    "monitoring": Effect.IN_PLACE,
    "tags": Effect.IN_PLACE,
    "database": Effect.IN_PLACE,
    "database.geoRedundantBackup": Effect.NEVER,
    "database.sku": Effect.RESTARTS_DATABASE,
    "keyVault.purgeProtection": Effect.IN_PLACE,
    "keyVault.softDeleteDays": Effect.NEVER,
    "keyGenerations.link": Effect.LINKS,
    "keyGenerations.signing": Effect.IN_PLACE,
    "deletionProtection": Effect.IN_PLACE,
}
"""Effects by key, or by section for all other keys in it."""

SUBNETS: Mapping[str, str] = {
    "nodes": "node VMs, the extra VMs of an upgrade, and the load balancer's frontend at the last usable address",
    "endpoints": "private endpoints of Key Vault and of storage",
    "database": "PostgreSQL; delegated to it, and only there if the platform needs a database",
    "authority": "the network authority's VMs and their frontend; only there at a member that runs an authority",
    "gateway": "named `GatewaySubnet`, as Azure demands: the VPN gateway, the ExpressRoute gateway, or both",
}
"""The content of each subnet of the address plan."""

_SAMPLE_SPACE = IPv4Network("10.1.0.0/16")
_LEARN = "https://learn.microsoft.com/azure"
# The sources before a rule: `VF: ...`, `UP, RE: ...`, `BI #5223: ...`.
_SOURCES = re.compile(r"\b([A-Z]{2}(?: #\d+)?(?:, [A-Z]{2}(?: #\d+)?)*): ")
_CONFIG = re.compile(r"^config:.*?(?=^[^\s#]|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """One configuration key at any depth."""

    path: str
    """The key's path, such as `bank.name`; `peers[].name` for a key of each entry of a list."""
    field: FieldInfo
    optional_section: str | None
    """The innermost optional section that contains it; None if there is none."""


def all_keys(
    model: type[BaseModel] = Settings, prefix: str = "", optional_section: str | None = None
) -> Iterator[Key]:
    """Every key of a section and of the sections in it; required ones first, each followed by its own."""
    fields = sorted(model.model_fields.values(), key=lambda field: not field.is_required())
    for field in fields:
        path = f"{prefix}{field.alias}"
        yield Key(path, field, optional_section)
        below = f"{path}[]" if get_origin(field.annotation) is tuple else path
        for section in section_of(field):
            yield from all_keys(section, f"{below}.", optional_section if field.is_required() else below)


def configuration_table() -> str:
    """The configuration keys, their meaning and default."""
    rows = [
        (
            f"`{key.path}`",
            _pulumi_type(key.field.annotation)["type"],
            _meaning(key.field),
            _default(key),
            _effect(key),
        )
        for key in all_keys()
    ]
    return table(("Key", "Type", "Meaning", "Default", "A change"), rows)


def effect_of(path: str) -> Effect:
    """The effect of a change of a key on a live member.

    Raises:
        StaleError: no effect is stated.
    """
    steps = re.split(r"(?=[.\[])", path)
    for length in range(len(steps), 0, -1):
        if effect := EFFECTS.get("".join(steps[:length])):
            return effect
    raise StaleError(f"{path}: what a change means is not said; wanted it in EFFECTS")


def _effect(key: Key) -> str:
    return "as below" if list(section_of(key.field)) else effect_of(key.path)


def outputs_table() -> str:
    """The stack's outputs and their meaning."""
    return table(("Output", "Meaning"), [(f"`{name}`", meaning) for name, meaning in OUTPUTS.items()])


def versions_table() -> str:
    """The documents that a program publishes, each with its version."""
    rows = [
        ("membership card", CARD_SCHEMA, "program", "peers' programs, agents and authority"),
        ("network information", NETWORK_INFO_SCHEMA, "agent", "peers' agents"),
        ("the authority's network", _version_of(NetworkAnswer), "authority", "all members' agents"),
        ("the authority's register", _version_of(RequestRecord), "authority", "the other VMs of the authority"),
        ("an identity's certificates", CHAINS_SCHEMA, "agent", "the bank's other agents"),
    ]
    return table(("Document", "Version", "Written by", "Read by"), rows)


def _version_of(model: type[BaseModel]) -> str:
    return str(model.model_fields["schema_version"].default)


def sizes_table() -> str:
    """The defaults of each size."""
    standby = NodesSettings.model_fields["standby"].default
    rows = [
        (
            f"`{size}`",
            str(profile.count),
            str(profile.count - standby),
            profile.vm_size,
            "on" if profile.monitoring else "off",
            "yes" if profile.database_high_availability is HighAvailability.ZONE_REDUNDANT else "no",
            "yes" if profile.needs_zones else "no",
        )
        for size, profile in SIZES.items()
    ]
    headings = (
        "Size",
        "VMs",
        "Ledger nodes",
        "VM size",
        "Monitoring",
        "Database standby in another zone",
        "Needs a region with zones",
    )
    return table(headings, rows)


def shown_table() -> str:
    """The items of the workbook, with their queries."""
    rows = [
        (
            section.title,
            item.title if isinstance(item, QueryItem) else f"{item.title} (*Azure*)",
            f"[`{item.query}`](../components/queries/{item.query}.kql)"
            if isinstance(item, QueryItem)
            else ", ".join(f"`{name}`" for name in item.metrics),
        )
        for section in sections(EXAMPLE)
        for item in section.items
    ]
    return table(("Section", "Shown", "From"), rows)


def collected_table() -> str:
    """The collected logs by resource, with their tables."""
    rows = [
        (
            what,
            ", ".join(f"`{each}`" for each in categories),
            ", ".join(sorted({f"`{TABLES[each]}`" for each in categories})),
        )
        for what, categories in (
            ("vaults", VAULT_LOGS),
            ("blobs", BLOB_LOGS),
            ("database", DATABASE_LOGS),
            ("gateways", GATEWAY_LOGS),
        )
    ]
    return table(("Of", "Categories", "Table"), rows)


def volumes_table() -> str:
    """GB a month of each size with monitoring, in a consortium of ten members, by table."""
    peers = 9
    sizes = {
        size: volumes(
            Senders(
                vms=profile.count,
                identities=profile.count - NodesSettings.model_fields["standby"].default,
                peers=peers,
                tunnels=TUNNELS_OF_LINK[LinkKind.VNET_TO_VNET] * peers,
                connections=CORDA.database.connections_per_identity if CORDA.database else 0,
            )
        )
        for size, profile in SIZES.items()
        if profile.monitoring
    }
    rows = [
        (f"`{table}`", *(f"{by_table[table].gb_a_month:.2f}" for by_table in sizes.values()), str(count))
        for table, count in BYTES.items()
    ]
    totals = [sum(each.gb_a_month for each in by_table.values()) for by_table in sizes.values()]
    rows.append(("together", *(f"{total:.1f}" for total in totals), ""))
    return table(("Table", *(f"`{size}`" for size in sizes), "Bytes a row"), rows)


def subnets_table() -> str:
    """The subnets of the address plan, their sizes, and what they hold."""
    plan = carve(_SAMPLE_SPACE)
    blocks = {each.name: getattr(plan, each.name) for each in fields(AddressPlan) if each.name != "space"}
    rows = [
        (name, f"/{block.prefixlen}, {block.num_addresses} addresses", str(block), SUBNETS[name])
        for name, block in blocks.items()
    ]
    return table(("Subnet", "Size", f"In {_SAMPLE_SPACE}", "What it holds"), rows)


def flows_table() -> str:
    """Every flow between the network's ends, with Corda's ports."""
    numbers = largest_port_groups()
    rows = [
        (
            each.name,
            _place(each.source),
            _place(each.destination),
            _ports(each, numbers),
            "node" if each.by_node else "",
            each.description,
        )
        for each in FLOWS
    ]
    return table(("Flow", "From", "To", "TCP ports", "By", "Why"), rows)


def largest_port_groups() -> dict[PortGroup, list[int]]:
    """The port groups of a member with the most Corda nodes, an authority and peers."""
    nodes = identities(CORDA, "O=Bank, L=London, C=GB", MAX_IDENTITIES)
    authority = CORDA.authority.listeners if CORDA.authority else ()
    return port_groups(
        listeners=[*listeners(nodes, ApplicationPorts.EACH), NETWORK_INFO],
        peers_ports=[*peer_ports(CORDA), NETWORK_INFO.port],
        authority_listeners=authority,
        peers_authority_ports=[each.port for each in authority],
    )


def _place(end: Subnet | Remote | Tag) -> str:
    return f"`{end}`" if isinstance(end, Tag) else end


def _ports(flow: Flow, numbers: Mapping[PortGroup, Sequence[int]]) -> str:
    if isinstance(flow.ports, PortGroup):
        return f"{flow.ports}: {', '.join(port_ranges(numbers[flow.ports]))}"
    return ", ".join(port_ranges(flow.ports))


def rules_table(cases: Sequence[Case]) -> str:
    """The refusals of the offline Azure by type, from the rules' docstrings.

    Args:
        cases: each with the rule that it breaks.
    """
    rows = [
        (
            ", ".join(each.split(":")[1] for each in types) or "all",
            _without_sources(str(rule.__doc__)),
            ", ".join(_source(each) for match in _SOURCES.findall(str(rule.__doc__)) for each in match.split(", ")),
            "; ".join(case.what for case in cases if case.rule is rule),
        )
        for rule, types in rules.types_by_rule().items()
    ]
    return table(("Of", "Rule", "Source", "Refused in the test"), rows)


def alerts_page() -> str:
    """Every alert rule: severity, condition, runbook, and the threshold's source."""
    conditions: list[tuple[AlertRule, str]] = [
        *((rule, f"{rule.watched.value}: {rule.when}") for rule in METRIC_RULES),
        *((rule, rule.when) for rule in QUERY_RULES),
        *((rule, rule.when) for rule in EVENT_RULES),
    ]
    rules_table = table(
        ("Alert", "Severity", "When", "Means", "Runbook", "Source"),
        [
            (
                f"`{rule.name}`",
                str(rule.severity),
                when,
                rule.meaning,
                f"[{rule.runbook}](runbooks/{rule.runbook})",
                _threshold_source(rule),
            )
            for rule, when in sorted(conditions, key=lambda each: (each[0].severity, each[0].name))
        ],
    )
    metric, often, seldom = map(_price_of_alert, ("metric", "query/PT5M", "query/PT15M"))
    return f"""# Alerts

The alert rules of a member of size `medium` or `large`. A rule is there if the member has the resource that it
watches. `make docs` writes this page from [components/alerts](../components/alerts), where each rule is a row of a
table.

{table(("Severity", "React"), [(str(severity), when) for severity, when in SEVERITIES.items()])}
The alert's mail names its runbook. Alerts on metrics and on queries end by themselves. Missing nodes raise no alert
until the first node has run.

A rule on a metric costs {metric} USD a month for each time series that it watches. A rule on a query costs
{often} USD if it runs every 5 minutes, {seldom} USD if it runs every 15 minutes or less often, and a tenth of that
for each further value of its dimensions ([prices](https://azure.microsoft.com/pricing/details/monitor/)).

{rules_table}
`monitoring.budget` adds a budget of Cost Management: it sends a mail when the month's cost reaches the budget, or
is forecast to ([runbook](runbooks/a-month-costs-too-much.md)).
"""


def _price_of_alert(kind: str) -> str:
    price = read_price_list().price(f"alert/{kind}", REGION)
    if price is None:
        raise StaleError(f"alert/{kind}: the price list has no such meter; wanted its price for {ALERTS.name}")
    return f"{price.tiers[-1][1]:.2f}"


def _threshold_source(rule: AlertRule) -> str:
    if rule.source.startswith("https://"):
        return f"[{rule.source.split('/')[2]}]({rule.source})"
    path = Path(rule.source)
    link = path.relative_to("docs") if path.is_relative_to("docs") else Path("..") / path
    return f"[{path.name}]({link})"


def _without_sources(docstring: str) -> str:
    sentences = _SOURCES.sub("", docstring).rstrip(".").split(". ")
    return ". ".join(each[0].upper() + each[1:] for each in sentences)


def _source(code: str) -> str:
    """A link to the source of an abbreviation in the rules' docstring."""
    listed = str(rules.__doc__)
    short, _, number = code.partition(" #")
    if number:
        if not (repository := re.search(rf"\b{short} ([\w-]+/[\w-]+)", listed)):
            raise StaleError(f"{code} is the source of a rule, and no repository is listed for it")
        return f"[{code}](https://github.com/{repository[1]}/issues/{number})"
    if not (page := re.search(rf"^    {short} ([\w/-]+)", listed, re.MULTILINE)):
        raise StaleError(f"{code} is the source of a rule, and no page is listed for it")
    return f"[{code}]({_LEARN}/{page[1]})"


def project_config() -> str:
    """The `config:` section of Pulumi.yaml.

    Pulumi demands every declared key that has no default, typed or not. So what is required stands there
    without one, what is optional with its default, and what is optional without a default is left out.
    """
    declared: dict[str, dict[str, Any]] = {}
    left_out: list[str] = []
    for field in Settings.model_fields.values():
        if field.alias == LOCATION_KEY:
            continue
        key = str(field.alias)
        if not field.is_required() and field.default is None:
            left_out.append(key)
            continue
        declared[key] = {**_pulumi_type(field.annotation), "description": field.description}
        if not field.is_required():
            declared[key]["default"] = _plain(field.default)
    body = yaml.safe_dump(declared, sort_keys=False, width=100, allow_unicode=True)
    comments = [
        "# Written by `make docs` from stack/settings.py, which also checks what lies inside the objects.",
        f"# Required besides these: {LOCATION_KEY}.",
        f"# Not declared, since Pulumi would demand what has no default: {', '.join(left_out)}.",
    ]
    lines = [*comments, *body.splitlines()]
    return "config:\n" + "".join(f"  {line}\n" for line in lines)


def documents(sample: Run, sizes: Sequence[Bill]) -> dict[Path, str]:
    """The current content of every generated document, by path.

    Args:
        sample: a run of the program for `SAMPLE_STACK`, without peers.
        sizes: the bills of the three sizes.

    Raises:
        StaleError: a document or Pulumi.yaml has no place for generated content.
    """
    return {
        **{path: with_blocks(path.read_text(encoding="utf-8"), path, each) for path, each in blocks(sizes).items()},
        PROJECT_FILE: _project(PROJECT_FILE.read_text(encoding="utf-8")),
        SCHEMA: json.dumps(card_schema(), indent=2) + "\n",
        SAMPLE_CARD: json.dumps(sample.outputs[outputs.CARD_OUTPUT], indent=2, sort_keys=True) + "\n",
        CHECKLIST: render(),
        ALERTS: alerts_page(),
    }


def blocks(sizes: Sequence[Bill]) -> dict[Path, dict[str, str]]:
    """The generated blocks, by document and name."""
    statement = Statement(read_price_list(), sizes)
    return {
        CONFIGURATION: {
            "configuration": configuration_table(),
            "sizes": sizes_table(),
            "cost": _console("make cost", as_text(statement, meters=False)),
        },
        OUTPUTS_PAGE: {"outputs": outputs_table()},
        COMPATIBILITY: {"versions": versions_table()},
        NETWORK: {"subnets": subnets_table(), "flows": flows_table()},
        COST: {
            "sizes": _console("make cost", as_text(statement)),
            "complete": complete_regions(sizes) + "\n",
            "unverified": unverified_table(),
            "free": table(("Type", "Why it is free"), [(f"`{name}`", why) for name, why in sorted(FREE.items())]),
            "usage": usage_table(),
        },
        MONITORING: {"shown": shown_table(), "collected": collected_table(), "volumes": volumes_table()},
        LAB_README: {"rules": rules_table(CASES)},
    }


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """The stale documents."""
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def wrong_pin(card: Mapping[str, Any]) -> str | None:
    """The mistake in the fingerprint that `SAMPLE_PIN` pins for the sample card; None if it is right."""
    actual = fingerprint(str(card["signingKey"]))
    configuration = yaml.safe_load(SAMPLE_PIN.read_text(encoding="utf-8"))["config"]
    pinned = [peer.get("fingerprint") for peer in configuration[PEERS_KEY] if peer["name"] == card["name"]]
    if pinned == [actual]:
        return None
    return f"{SAMPLE_PIN.name}: the peer {card['name']} has fingerprint {pinned}; wanted {actual}"


def generate() -> list[str]:
    """Update every generated document.

    Returns:
        One line for each document that was stale, or that must be changed by hand.
    """
    sample = plan_alone(SAMPLE_STACK)
    wanted = documents(sample, bills_of_sizes(Terms(read_price_list(), Usage())))
    paths = stale(wanted)
    for path in paths:
        path.write_text(wanted[path], encoding="utf-8")
    lines = [f"{path.relative_to(ROOT)}: written" for path in paths]
    pin = wrong_pin(sample.outputs[outputs.CARD_OUTPUT])
    return [*lines, pin] if pin else lines


def _console(command: str, printed: str) -> str:
    return f"```console\n$ {command}\n{printed}```\n"


def complete_regions(sizes: Sequence[Bill]) -> str:
    """The regions for which the price list has every price that the sizes need."""
    price_list = read_price_list()
    meters = {each.meter for one in sizes for each in one.lines}
    # A region with another generation of servers has other meters.
    generation = REGIONS[REGION].server_offer.generation
    alike = [each for each in price_list.regions if REGIONS[each].server_offer.generation == generation]
    return ", ".join(f"`{each}`" for each in alike if not price_list.without(meters, each))


def unverified_table() -> str:
    """Prices without a second source, in the region of the sizes."""
    price_list = read_price_list()
    prices = {name: price_list.price(name, REGION) for name in sorted(price_list.meters)}
    rows = [
        (f"`{name}`", price.verified.value, ", ".join(f"{each:f}" for _, each in price.tiers), price.source)
        for name, price in prices.items()
        if price and price.verified not in EXACT
    ]
    return table(("Meter", "Rests on", "Price", "Source"), rows)


def usage_table() -> str:
    """The keys of a usage file."""
    rows = [
        (
            f"`{field.alias}`",
            "from the plan" if field.default is None else f"{field.default:,g}",
            str(field.description),
        )
        for field in Usage.model_fields.values()
    ]
    return table(("Key", "Default", "Meaning"), rows)


def _project(text: str) -> str:
    if not _CONFIG.search(text):
        raise StaleError(f"{PROJECT_FILE.name} has no section `config:`; wanted one to fill")
    return _CONFIG.sub(lambda _: project_config(), text)


def _meaning(field: FieldInfo) -> str:
    return field.description or _values(field)


def _values(field: FieldInfo) -> str:
    """The values of a field without a description, from its type."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    least = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    most = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    if least is None:
        raise StaleError(f"{field.alias} has neither a description nor values that speak for themselves; wanted one")
    return f"{least} or more" if most is None else f"{least} to {most}"


def _default(key: Key) -> str:
    field = key.field
    if field.is_required():
        return f"required in `{key.optional_section}`" if key.optional_section else "**required**"
    if field.default is None:
        return "none"
    value = _plain(field.default)
    if not value and inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
        return "as below"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _plain(default: Any) -> Any:
    """A default in the form of YAML and JSON."""
    if isinstance(default, tuple):
        return [_plain(each) for each in default]
    return default.value if isinstance(default, Enum) else default


def _pulumi_type(annotation: Any) -> dict[str, Any]:  # noqa: PLR0911
    """Pulumi's word for a type: string, integer, boolean, array or object."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return {"type": "array", "items": _pulumi_type(arguments[0])}
    if origin in (Union, UnionType) or hasattr(annotation, "__metadata__"):
        return _pulumi_type(arguments[0])
    if origin is Literal:
        return {"type": "string"}
    if origin is dict or issubclass(annotation, BaseModel):
        return {"type": "object"}
    if issubclass(annotation, bool):
        return {"type": "boolean"}
    if issubclass(annotation, int):
        return {"type": "integer"}
    if issubclass(annotation, str | UUID | IPv4Network | SecretStr | Path | datetime):
        return {"type": "string"}
    raise TypeError(f"Pulumi has no configuration type for {annotation}")


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in generate() or ["all up to date"])
