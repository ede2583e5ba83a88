"""Corda 4: roles, ports, state, runtime, database, and the X.500 names of its nodes."""

import re
import unicodedata
from typing import TYPE_CHECKING

from ledger.platform import (
    HEALTH_PATH,
    HEALTH_PORT,
    P2P,
    Audience,
    AuthorityNeeds,
    Counted,
    DatabaseNeeds,
    Durability,
    Installation,
    Listener,
    NetworkDocument,
    Platform,
    Port,
    Probe,
    ProbeProtocol,
    Role,
    Scope,
    SecretBlob,
    StatePath,
)

if TYPE_CHECKING:
    from ledger.software import Software, Surroundings

POOL = 18
"""Connections of one node's own pool."""

_ORDER = ("CN", "OU", "O", "L", "ST", "C")
_REQUIRED = ("O", "L", "C")
_RESERVED = ("CN", "OU")
_FORBIDDEN = re.compile(r"[,=+$\"'\\<>;#\x00-\x1f]")
_MAX_LENGTHS = {"O": 127}
_MAX_LENGTH = 63
_CLASS = r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*"
# The forms that a node's RPCPermissionResolver reads.
_PERMISSION = re.compile(rf"ALL|InvokeRpc\.[A-Za-z]\w*|InvokeRpc:{_CLASS}#[A-Za-z]\w*|StartFlow\.{_CLASS}")

# ISO 3166-1 alpha-2, the codes that Java's Locale.getISOCountries() gives a node to check against.
_COUNTRIES = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """.split()
)


def parse_legal_name(text: str) -> dict[str, str]:
    """The attributes of an X.500 name in Corda's order, for example `O=Bank A, L=London, C=GB`.

    Raises:
        ValueError: the name is not one that a Corda node accepts; the message says what was wanted.
    """
    attributes: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or key not in _ORDER:
            raise ValueError(f"{part.strip()!r} is no attribute; wanted KEY=value with KEY of {', '.join(_ORDER)}")
        if key in attributes:
            raise ValueError(f"{key} stands twice; wanted each attribute once")
        longest = _MAX_LENGTHS.get(key, _MAX_LENGTH)
        if not value or len(value) > longest or _FORBIDDEN.search(value):
            raise ValueError(f"{key}={value!r}; wanted 1 to {longest} characters, none of ,=+$\"'\\<>;#")
        if value != unicodedata.normalize("NFKC", " ".join(value.split())):
            raise ValueError(f"{key}={value!r}; wanted it in Unicode NFKC with single spaces")
        attributes[key] = value
    if missing := [key for key in _REQUIRED if key not in attributes]:
        raise ValueError(f"no {', '.join(missing)}; wanted at least O, L and C")
    if sum(character.isalpha() for character in attributes["O"]) < 2:
        raise ValueError(f"O={attributes['O']!r}; wanted an organisation of two characters or more")
    if attributes["C"] not in _COUNTRIES:
        raise ValueError(f"C={attributes['C']!r}; wanted an ISO 3166-1 alpha-2 country code")
    return {key: attributes[key] for key in _ORDER if key in attributes}


def _write(attributes: dict[str, str]) -> str:
    return ", ".join(f"{key}={attributes[key]}" for key in _ORDER if key in attributes)


def check_bank_legal_name(text: str) -> str:
    """A bank's legal name in canonical form; OU and CN stay free for its nodes.

    Raises:
        ValueError: not a legal name, or it names an OU or a CN.
    """
    attributes = parse_legal_name(text)
    if taken := [key for key in _RESERVED if key in attributes]:
        raise ValueError(f"{', '.join(taken)} is set; wanted none, since each node gets an OU of its own")
    return _write(attributes)


def check_permission(text: str) -> str:
    """What an RPC user may do.

    Raises:
        ValueError: a node would not start with it.
    """
    if not _PERMISSION.fullmatch(text):
        raise ValueError(f"{text!r}; wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD or InvokeRpc:INTERFACE#METHOD")
    return text


def _node_legal_name(bank: str, node: str) -> str:
    return _write({**parse_legal_name(bank), "OU": node})


def _packages(version: str) -> tuple[str, ...]:
    # Corda 4.8 to 4.11 run on Java 8; 4.12 and later on Java 17. With its compiler, for what of this project runs in
    # Java; Maven fetches the artifacts.
    minor = int(version.split(".")[1])
    return (f"openjdk-{17 if minor >= 12 else 8}-jdk-headless", "maven")


def _software(surroundings: "Surroundings") -> "Software":
    # Loaded on a VM alone: it wants what the program's own environment lacks.
    from ledger.corda.software import CordaSoftware  # noqa: PLC0415

    return CordaSoftware(surroundings)


def _install(installation: Installation) -> None:
    from ledger.corda.installation import install  # noqa: PLC0415

    install(installation)


_APPLICATIONS, _PEERS = frozenset({Audience.APPLICATIONS}), frozenset({Audience.PEERS})
_PORTS = (
    Port(P2P, 10000, _PEERS),
    Port("rpc", 10100, _APPLICATIONS),
    Port("rpc-admin", 10300, scope=Scope.LOCAL),
    Port("monitoring", 10400, scope=Scope.LOCAL),
)
_STATE = (
    # Messages received and not yet processed: without them a peer's flow may wait for good.
    StatePath("artemis", Durability.MUST),
    # Peers stand in the database too.
    StatePath("additional-node-infos", Durability.REBUILT),
    StatePath("nodeInfo-*", Durability.REBUILT),
    StatePath("brokers", Durability.REBUILT),
    StatePath("djvm", Durability.REBUILT),
    StatePath("logs", Durability.REBUILT),
)
# PEM of a P-256 key has 241 bytes. What certifies the keys is public, renewed in time, and kept elsewhere.
_SECRETS = tuple(SecretBlob(name, 1024) for name in ("node-ca-key", "identity-key", "tls-key", "rpc-tls-key"))

# Of an authority's VMs, which are asked for their health like the nodes'.
_HEALTH = Probe(HEALTH_PORT, ProbeProtocol.HTTP, HEALTH_PATH)

CORDA = Platform(
    name="corda",
    versions=("4.8", "4.9", "4.10", "4.11", "4.12", "4.13", "4.14"),
    # The newest release whose artifacts stand in a public Maven repository.
    default_version="4.10",
    roles=(
        Role("node", (*_PORTS, Port("rpc", 10200, _APPLICATIONS, Scope.SPREAD)), _STATE, _SECRETS),
        # Applications share states among nodes, and a notary has none.
        Role("notary", _PORTS, _STATE, _SECRETS),
    ),
    # A node's own default is a pool of 10; 18 leaves room under load, and two are the agent's. PostgreSQL 15 is what
    # 4.10 was run on.
    database=DatabaseNeeds(version="15", connections_per_identity=POOL + 2),
    network_document=NetworkDocument("network-parameters"),
    transactions=Counted.OWN,
    packages=_packages,
    check_legal_name=check_bank_legal_name,
    node_legal_name=_node_legal_name,
    software=_software,
    install=_install,
    authority=AuthorityNeeds(
        module="ledger.corda.authority",
        keys=("root", "identity-ca", "network-parameters"),
        listeners=(
            Listener("enrolment", 8444, _PEERS, _HEALTH),
            # Revocation lists are signed: plain HTTP carries them, as everywhere.
            Listener("revocation", 8445, _PEERS, _HEALTH),
        ),
    ),
    check_permission=check_permission,
)
PLATFORM = CORDA
