"""Legal names are compared in one way, by whoever deploys and by whoever certifies."""

import json
from typing import Any

import pytest

from contract.legal_name import LegalName, name_key, same_name
from lab import ROOT

# The credit record's contract is tested by the same file.
VECTORS: dict[str, Any] = json.loads(
    (ROOT / "examples/credit-record/contracts/src/test/resources/legal-names.json").read_text(encoding="utf-8")
)
ONE_NAME = {
    **{other: (one, other) for one, other in VECTORS["equal"]},
    "spaces of no X.500 name": ("O=Bank A", "O=Bank   A"),
    "no X.500 name": ("Bank A node-1", "bank  a NODE-1"),
}
TWO_NAMES = {
    **{other: (one, other) for one, other in VECTORS["different"]},
    "no X.500 name": ("Bank A node-1", "Bank A node-2"),
}


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda each: each["text"])
def test_what_a_node_accepts_has_one_spelling(vector: dict[str, str]) -> None:
    assert str(LegalName.parse(vector["text"])) == vector["canonical"], "banks are compared by this text"


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda each: each["what"])
def test_what_may_pass_for_another_name_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="; wanted ") as refused:
        LegalName.parse(vector["text"])
    assert str(refused.value).isascii(), "a message that shows the character as it is shows a look-alike"


def test_a_look_alike_is_refused_by_one_clear_message() -> None:
    with pytest.raises(ValueError, match="wanted printable basic Latin only") as refused:
        LegalName.parse("O=\u202eA knaB, L=London, C=GB")
    assert str(refused.value) == (
        "'O=\\u202eA knaB, L=London, C=GB' has U+202E (RIGHT-TO-LEFT OVERRIDE); wanted printable basic Latin only"
    ), "the character is named, since nobody sees it"


@pytest.mark.parametrize(("one", "other"), ONE_NAME.values(), ids=ONE_NAME)
def test_spellings_of_one_name_are_one(one: str, other: str) -> None:
    assert same_name(one, other), "two members with it would both be certified"


@pytest.mark.parametrize(("one", "other"), TWO_NAMES.values(), ids=TWO_NAMES)
def test_names_that_differ_are_not_the_same_name(one: str, other: str) -> None:
    assert not same_name(one, other), "nobody is kept out for another's name"


def test_equal_legal_names_compare_and_hash_equal() -> None:
    one, other = (LegalName.parse(text) for text in ("O=Bank A, L=London, C=GB", "O=BANK A, L=LONDON, C=GB"))
    assert one == other
    assert len({one, other}) == 1, "a set of names has each once"
    assert str(one) != str(other), "and each keeps its spelling, which a certificate shows"
    assert name_key(str(one)) == one.key


def test_a_node_is_its_bank_with_a_unit() -> None:
    bank = LegalName.of_bank("O=Bank A, L=London, C=GB")
    assert str(bank.of_node("node-1")) == "OU=node-1, O=Bank A, L=London, C=GB"
    with pytest.raises(ValueError, match="OU is set; wanted none"):
        LegalName.of_bank("OU=node-1, O=Bank A, L=London, C=GB")


def test_a_node_names_its_bank() -> None:
    assert str(LegalName.bank_of("OU=node-1, O=Bank A, L=London, C=GB")) == "O=Bank A, L=London, C=GB"
    for name in ("O=Bank A, L=London, C=GB", "CN=Ledger, OU=node-1, O=Bank A, L=London, C=GB"):
        with pytest.raises(ValueError, match="is no name of a node; wanted its bank's name and an OU"):
            LegalName.bank_of(name)
