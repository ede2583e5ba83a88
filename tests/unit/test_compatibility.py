"""Documents of newer and older programs, as docs/compatibility.md describes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from agent.lease import IdentityRecord
from contract.authority_configuration import AuthorityConfiguration
from contract.card import SeenCard
from contract.key_document import KeyDocument
from contract.vm_configuration import AgentConfiguration
from host.bank_documents import Document
from host.errors import DamagedError
from host.vm_configuration import ConfigurationError, read_configuration
from ledger.corda.authority.register import (
    AuthorityRecord,
    NameRecord,
    ParametersRecord,
    RequestRecord,
    RevocationsRecord,
)
from ledger.corda.certificates import CertificateError, Chains
from stack.regions import ServerOffer

NEWER = {"more": "of a newer program"}


@pytest.mark.parametrize("record", [AuthorityRecord, NameRecord, ParametersRecord, RequestRecord, RevocationsRecord])
@pytest.mark.parametrize(("newer", "key"), [(NEWER, "more"), ({"schema": "2.0"}, "schema")])
def test_an_older_authority_refuses_a_record_that_its_next_write_would_truncate(
    record: Any, newer: dict[str, Any], key: str
) -> None:
    with pytest.raises(DamagedError) as refused:
        record.read(Document(json.dumps(newer).encode(), "etag"), "a/b")
    with pytest.raises(ValidationError) as every:
        record.model_validate(newer)
    faults = {fault["loc"][0]: fault["type"] for fault in every.value.errors()}
    assert faults[key] in ("extra_forbidden", "string_pattern_mismatch"), "the unknown key is refused"
    assert "register: blob a/b: " in str(refused.value), "the message says which blob"


def test_an_older_agent_treats_a_newer_record_of_its_identity_as_lost() -> None:
    newer = json.loads(IdentityRecord(epoch=7).to_json()) | NEWER
    with pytest.raises(DamagedError, match=r"blob node-1: more: .*; wanted the record that an agent wrote"):
        IdentityRecord.from_json("node-1", json.dumps(newer).encode())


def test_an_older_agent_refuses_newer_keys_as_a_whole() -> None:
    newer = json.loads(KeyDocument(identity="node-1", blobs={"a": b"1"}).to_json()) | NEWER
    with pytest.raises(ValidationError, match="more"):
        KeyDocument.model_validate_json(json.dumps(newer))


def test_certificates_of_another_schema_are_requested_again() -> None:
    newer = {"schema": "2.0", "nodeCa": [], "identity": [], "tls": [], "rpc": ""}
    with pytest.raises(CertificateError, match=r"schema: .*; wanted .* of schema 1.0"):
        Chains.from_json(json.dumps(newer).encode())


@pytest.mark.parametrize("configuration", [AgentConfiguration, AuthorityConfiguration])
def test_a_configuration_of_another_version_is_refused_with_the_keys_that_differ(
    tmp_path: Path, configuration: type[BaseModel]
) -> None:
    path = tmp_path / "configuration.json"
    path.write_text(json.dumps(NEWER))
    with pytest.raises(ConfigurationError) as refused:
        read_configuration(path, configuration, "a configuration")
    lines = str(refused.value).splitlines()
    assert any(": more: " in line for line in lines), "an older image names the unknown keys"
    assert any(line.endswith(": member is missing") for line in lines), "a newer image names the missing keys"


def test_a_program_reads_the_outputs_of_an_older_or_newer_one() -> None:
    seen = SeenCard(fingerprint="sha256:1", counter=3, link_generation=1, digest="d")
    assert SeenCard.model_validate(seen.to_output() | NEWER) == seen, "the counters of peers' cards stay recorded"
    with pytest.raises(ValidationError, match="more"):
        ServerOffer.model_validate(NEWER)
