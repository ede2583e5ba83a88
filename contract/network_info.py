"""The document of `GET /networkinfo`: what members publish about their nodes."""

import base64
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)

from contract.models import FIRST_FAULT_ONLY, OpenModel, first_fault

NETWORK_INFO_SCHEMA = "1.0"
"""MAJOR.MINOR of the document. A minor version only adds properties; another major version is refused."""
MAX_NODE_INFOS = 200


class NetworkInfoError(Exception):
    """A peer's answer is refused; the message says why, and what was wanted."""


def _decoded(text: object) -> bytes:
    # Not from JSON: the program built this document.
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise ValueError("wanted base64")
    return base64.b64decode(text, validate=True)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


Base64 = Annotated[bytes, BeforeValidator(_decoded), PlainSerializer(_encoded)]


class NodeInfo(OpenModel, strict=True):
    """A node's own description, as it publishes it."""

    legal_name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    info: Annotated[Base64, Field(min_length=1)]


def _each_once(nodes: tuple[NodeInfo, ...]) -> tuple[NodeInfo, ...]:
    if len({node.legal_name for node in nodes}) < len(nodes):
        raise ValueError("a legal name occurs twice; wanted each once")
    return nodes


class NetworkInfo(OpenModel, strict=True):
    """A member's network information."""

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]{1,9}$")] = NETWORK_INFO_SCHEMA
    member: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    card: dict[str, Any] | None = None
    """The member's card, as signed; None before the first."""
    nodes: Annotated[
        tuple[NodeInfo, ...], FIRST_FAULT_ONLY, Field(max_length=MAX_NODE_INFOS), AfterValidator(_each_once)
    ] = ()
    network_document: Base64 | None = None
    """The file that all members share; None if this member lacks it."""

    def to_json(self) -> bytes:
        """The document as served."""
        return self.model_dump_json(by_alias=True).encode()


class _Version(BaseModel):
    schema_version: Annotated[str, Field(alias="schema")]


def parse_network_info(content: bytes, member: str) -> NetworkInfo:
    """Parse the network information that `member` served.

    Raises:
        NetworkInfoError: another major version, another member's document, or an invalid one.
    """
    try:
        version = _Version.model_validate_json(content).schema_version
        major, _, minor = version.partition(".")
        if major.isdecimal() and minor.isdecimal() and len(version) < 16 and major != NETWORK_INFO_SCHEMA[0]:
            whose = "this program" if int(major) > int(NETWORK_INFO_SCHEMA[0]) else "that member's program"
            raise NetworkInfoError(f"{member}: schema is {version}; wanted {NETWORK_INFO_SCHEMA}: upgrade {whose}")
        info = NetworkInfo.model_validate_json(content)
    except ValidationError as error:
        raise NetworkInfoError(
            f"{member}: {first_fault(error)}; wanted network information of schema {NETWORK_INFO_SCHEMA}"
        ) from None
    if info.member != member or (info.card is not None and info.card.get("name") != member):
        raise NetworkInfoError(f"{member}: the document is that of {info.member!r:.80}; wanted its own")
    return info
