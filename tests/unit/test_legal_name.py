"""Legal names are compared in the same way by deployers and by authorities."""

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
def test_each_name_that_a_node_accepts_has_one_canonical_form(vector: dict[str, str]) -> None:
    assert str(LegalName.parse(vector["text"])) == vector["canonical"], "banks are compared by this text"


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda each: each["what"])
def test_names_that_look_like_another_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="; wanted ") as refused:
        LegalName.parse(vector["text"])
    assert str(refused.value).isascii(), "the message must escape a look-alike character"


def test_a_look_alike_is_refused_by_one_clear_message() -> None:
    with pytest.raises(ValueError, match="wanted printable basic Latin only") as refused:
        LegalName.parse("O=\u202eA knaB, L=London, C=GB")
    assert str(refused.value) == (
        "'O=\\u202eA knaB, L=London, C=GB' has U+202E (RIGHT-TO-LEFT OVERRIDE); wanted printable basic Latin only"
    ), "the message names the character, which can't be seen"


@pytest.mark.parametrize(("one", "other"), ONE_NAME.values(), ids=ONE_NAME)
def test_spellings_of_one_name_are_equal(one: str, other: str) -> None:
    assert same_name(one, other), "otherwise two members could be certified with it"


@pytest.mark.parametrize(("one", "other"), TWO_NAMES.values(), ids=TWO_NAMES)
def test_different_names_are_not_equal(one: str, other: str) -> None:
    assert not same_name(one, other), "a name must not be refused because of another one"


def test_equal_legal_names_compare_and_hash_equal() -> None:
    one, other = (LegalName.parse(text) for text in ("O=Bank A, L=London, C=GB", "O=BANK A, L=LONDON, C=GB"))
    assert one == other
    assert len({one, other}) == 1, "a set has each name once"
    assert str(one) != str(other), "each name keeps its spelling, which a certificate shows"
    assert name_key(str(one)) == one.key


def test_a_nodes_name_is_its_banks_name_with_a_unit() -> None:
    bank = LegalName.of_bank("O=Bank A, L=London, C=GB")
    assert str(bank.of_node("node-1")) == "OU=node-1, O=Bank A, L=London, C=GB"
    with pytest.raises(ValueError, match="OU is set; wanted none"):
        LegalName.of_bank("OU=node-1, O=Bank A, L=London, C=GB")


def test_the_banks_name_follows_from_a_nodes_name() -> None:
    assert str(LegalName.bank_of("OU=node-1, O=Bank A, L=London, C=GB")) == "O=Bank A, L=London, C=GB"
    for name in ("O=Bank A, L=London, C=GB", "CN=Ledger, OU=node-1, O=Bank A, L=London, C=GB"):
        with pytest.raises(ValueError, match="is not a node's name; wanted its bank's name and an OU"):
            LegalName.bank_of(name)
