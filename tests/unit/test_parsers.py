"""Every parser of untrusted input: its seeds, its corpus, and a few mutations; `make fuzz` tries many."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ledger.corda import proof
from ledger.corda.certificates import CertificateError, from_der
from tests.certificates import make_network
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import CORPUS, NAMES, Target, targets
from tests.fuzz.trial import attempt


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Target]]:
    with targets() as found:
        yield found


def test_every_target_is_named(made: dict[str, Target]) -> None:
    assert sorted(made) == list(NAMES), "an unnamed target would never run"
    assert {path.name for path in CORPUS.glob("*")} <= set(NAMES), "each input of the corpus belongs to a target"


@pytest.mark.parametrize("name", NAMES)
def test_a_mutation_gives_a_value_or_a_documented_error(made: dict[str, Target], name: str) -> None:
    target = made[name]
    for content in [*target.seeds, *(path.read_bytes() for path in target.found)]:
        attempt(target, content)

    @given(st.data())
    def few(data: st.DataObject) -> None:
        attempt(target, data.draw(mutated(target.seeds)))

    few()


# --- Earlier findings ----------------------------------------------------------------------------------------------

_ROOT = make_network().root.public_bytes(Encoding.DER)


def _certificate(part: bytes, other: bytes) -> bytes:
    assert part in _ROOT, "the case must change the certificate"
    return _ROOT.replace(part, other)


ODD_CERTIFICATES = {
    "version 8": _certificate(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
    "an extension twice": _certificate(b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e"),
    "an unknown signature": _certificate(b"\xce\x3d\x04\x03\x02", b"\xce\x3d\x04\x03\x7f"),
    "an unknown curve": _certificate(b"\xce\x3d\x03\x01\x07", b"\xce\x3d\x03\x01\x7f"),
    "an unknown kind of key": _certificate(b"\xce\x3d\x02\x01", b"\xce\x3d\x02\x7f"),
}


@pytest.mark.parametrize("what", ODD_CERTIFICATES)
def test_a_malformed_certificate_is_refused_when_it_is_read(made: dict[str, Target], what: str) -> None:
    with pytest.raises(CertificateError, match=r"wanted X\.509 in DER"):
        from_der(ODD_CERTIFICATES[what])
    attempt(made["zipped-certificate"], ODD_CERTIFICATES[what])


@pytest.mark.parametrize("entry", [b"{}", b"1", b'{"legalName": "O=B"}'])
def test_a_megabyte_of_mistakes_is_reported_as_one(made: dict[str, Target], entry: bytes) -> None:
    entries = b",".join([entry] * (1_000_000 // (len(entry) + 1)))
    attempt(made["network-info"], b'{"schema": "1.0", "member": "bank-b", "nodes": [' + entries + b"]}")


def test_a_mapping_of_mistakes_is_reported_as_one(made: dict[str, Target]) -> None:
    urls = b",".join(b'"%d": 1' % number for number in range(90_000))
    attempt(
        made["network-answer"], b'{"trustRoot": "", "epoch": 1, "networkParameters": null, "crl": {' + urls + b"}}"
    )


def test_a_proof_that_is_no_text_is_refused() -> None:
    assert not proof.equal("\udcff", "0" * 64), "header bytes that are not UTF-8 must not raise a TypeError"
