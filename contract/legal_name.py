"""X.500 legal names of banks and their nodes: parsing, canonical spelling, comparison.

Every platform accepts what a Corda node accepts, in printable basic Latin alone: Corda's doorman requires the Latin
script against names that look alike, and this leaves none of those.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator

_ORDER = ("CN", "OU", "O", "L", "ST", "C")
_REQUIRED = ("O", "L", "C")
_RESERVED = ("CN", "OU")
_FORBIDDEN = re.compile(r"[,=+$\"'\\<>;#\t\r\n]")
# Line breaks are allowed between attributes, not inside a value.
_NOT_BASIC_LATIN = re.compile(r"[^ -~\t\r\n]")
_MAX_LENGTHS = {"O": 127}
_MAX_LENGTH = 63

# ISO 3166-1 alpha-2: the codes of Java's Locale.getISOCountries(), which a node checks against. A word is a first
# letter with the second letters that follow it: "UAGMSYZ" means UA, UG, UM, US, UY and UZ.
_COUNTRIES = frozenset(
    word[0] + second
    for word in """
    ADEFGILMOQRSTUWXZ BABDEFGHIJLMNOQRSTVWYZ CACDFGHIKLMNORUVWXYZ DEJKMOZ ECEGHRST FIJKMOR
    GABDEFGHILMNPQRSTUWY HKMNRTU IDELMNOQRST JEMOP KEGHIMNPRWYZ LABCIKRSTUVY MACDEFGHKLMNOPQRSTUVWXYZ
    NACEFGILOPRUZ OM PAEFGHKLMNRSTWY QA REOSUW SABCDEGHIJKLMNORSTVXYZ TCDFGHJKLMNORTVWZ UAGMSYZ VACEGINU WFS
    YET ZAMW
    """.split()
    for second in word[1:]
)


@dataclass(frozen=True, eq=False)
class LegalName:
    """A legal name such as `O=Bank A, L=London, C=GB`, its attributes in Corda's order.

    As in X.500, order, case and white space of the spelling do not matter for equality.
    """

    attributes: tuple[tuple[str, str], ...]
    """Pairs of key and value."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a legal name.

        Raises:
            ValueError: not a name that a Corda node accepts; the message says what was wanted.
        """
        if strange := _NOT_BASIC_LATIN.search(text):
            what = unicodedata.name(strange[0], "a control character")
            raise ValueError(f"{text!a:.80} has U+{ord(strange[0]):04X} ({what}); wanted printable basic Latin only")
        attributes: dict[str, str] = {}
        for part in text.split(","):
            key, separator, value = (piece.strip() for piece in part.partition("="))
            if not separator or key not in _ORDER:
                raise ValueError(
                    f"{part.strip()!r} is not an attribute; wanted KEY=value with KEY of {', '.join(_ORDER)}"
                )
            if key in attributes:
                raise ValueError(f"{key} occurs twice; wanted each attribute once")
            attributes[key] = _checked(key, value)
        if missing := [key for key in _REQUIRED if key not in attributes]:
            raise ValueError(f"no {', '.join(missing)}; wanted at least O, L and C")
        if sum(character.isalpha() for character in attributes["O"]) < 2:
            raise ValueError(f"O={attributes['O']!r}; wanted an organisation of two characters or more")
        if attributes["C"] not in _COUNTRIES:
            raise ValueError(f"C={attributes['C']!r}; wanted an ISO 3166-1 alpha-2 country code")
        return cls(tuple((key, attributes[key]) for key in _ORDER if key in attributes))

    @classmethod
    def of_bank(cls, text: str) -> Self:
        """Parse the name of a bank, which leaves OU and CN to its nodes.

        Raises:
            ValueError: not a legal name, or it has an OU or a CN.
        """
        name = cls.parse(text)
        if taken := [key for key, _ in name.attributes if key in _RESERVED]:
            raise ValueError(f"{', '.join(sorted(taken))} is set; wanted none, since each node gets its own OU")
        return name

    @classmethod
    def bank_of(cls, text: str) -> Self:
        """The bank's name, from the name of one of its nodes.

        Raises:
            ValueError: not a legal name, or not a node's: a bank's name and an OU.
        """
        name = cls.parse(text)
        if [key for key, _ in name.attributes if key in _RESERVED] != ["OU"]:
            raise ValueError(f"{text!r} is not a node's name; wanted its bank's name and an OU")
        return cls(tuple((key, value) for key, value in name.attributes if key not in _RESERVED))

    def __str__(self) -> str:
        """The canonical spelling."""
        return ", ".join(f"{key}={value}" for key, value in self.attributes)

    @property
    def key(self) -> str:
        """Comparison key: the same for all spellings of one name."""
        return "\n".join(f"{key}={_folded(value)}" for key, value in self.attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LegalName) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def get(self, key: str) -> str | None:
        """The value of an attribute; None where the name has none."""
        return dict(self.attributes).get(key)

    def of_node(self, node: str) -> "LegalName":
        """The legal name of the bank's node `node`, an identity's name that becomes the OU."""
        return LegalName.parse(f"{self}, OU={node}")


def _checked(key: str, value: str) -> str:
    longest = _MAX_LENGTHS.get(key, _MAX_LENGTH)
    if not value or len(value) > longest or _FORBIDDEN.search(value):
        raise ValueError(f"{key}={value!r}; wanted 1 to {longest} characters, none of ,=+$\"'\\<>;#")
    if value != " ".join(value.split()):
        raise ValueError(f"{key}={value!r}; wanted single spaces")
    return value


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def canonical_name(text: str) -> str:
    """A legal name in its canonical spelling; raises ValueError as `LegalName.parse` does."""
    return str(LegalName.parse(text))


def canonical_if_x500(text: str) -> str:
    """The canonical spelling of an X.500 name; another platform's name is returned as it is."""
    try:
        return canonical_name(text)
    except ValueError:
        return text


def name_key(text: str) -> str:
    """Comparison key of a name: the same for all its spellings. Other platforms' names need not be X.500."""
    try:
        return LegalName.parse(text).key
    except ValueError:
        return "\n".join(sorted(_folded(part) for part in text.split(",")))


def same_name(one: str, other: str) -> bool:
    """Whether two texts spell one legal name."""
    return name_key(one) == name_key(other)


LegalNameText = Annotated[str, AfterValidator(canonical_name)]
"""A legal name in a document, in its canonical spelling."""
