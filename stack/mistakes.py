"""Error messages for documents that people write: `key: value: what is wrong; wanted form`, a line for each mistake.

Pydantic finds the mistakes; its own messages are never shown.
"""

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from contract.messages import one_line

Steps = tuple[int | str, ...]
"""Path of a value in a document: keys of objects and positions in lists."""
_Value = TypeVar("_Value")

_MAX_SHOWN: Final = 80
"""Characters of a value that a line shows."""
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w:-]*", re.ASCII)
_USERINFO: Final = re.compile(r"(:(?://)?).*", re.DOTALL)
"""User and password of a URL, also of one that is wrong since they are not encoded; a message must not show them."""
_ABSENT: Final = object()
"""The value of a key that the document does not have."""


@dataclass(frozen=True)
class Form:
    """Annotation of a field: the form that its values must have, for messages; by default its type says it."""

    text: str


@dataclass(frozen=True)
class Flaw:
    """A mistake in a part of the value that a validator checks, or in another setting."""

    text: str
    """`what is wrong; wanted form`; `not set; wanted form` if the document lacks the key."""
    steps: Steps = ()
    """Path of the part, relative to the checked value."""
    elsewhere: bool = False
    """Whether `steps` is relative to the whole document instead."""
    value: object = _ABSENT
    """The default, to be shown if the document lacks the key."""


class FlawsError(ValueError):
    """Raised by a validator: all mistakes that it found."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__("; ".join(each.text for each in flaws))
        self.flaws = flaws


def refuse(flaws: Iterable[Flaw]) -> None:
    """Refuse the value that a validator checks if it has any flaw.

    Raises:
        FlawsError: there is at least one flaw.
    """
    if found := list(flaws):
        raise FlawsError(found)


def repeated(
    values: Sequence[_Value], key: Callable[[_Value], Hashable] = lambda value: value, *, below: Steps = ()
) -> Iterator[Flaw]:
    """A flaw for each value of a list that equals an earlier value.

    Args:
        values: the list that a validator checks.
        key: returns the part that must be unique; by default the whole value.
        below: path of that part, relative to the value.
    """
    first: dict[Hashable, int] = {}
    for place, value in enumerate(values):
        if (earlier := first.setdefault(key(value), place)) != place:
            yield Flaw(f"the same as {key_text((earlier, *below))}; wanted each once", (place, *below))


def each_once(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """Validator of a list whose values must be unique; returns the list.

    Raises:
        FlawsError: a value is repeated.
    """
    refuse(repeated(values))
    return values


@dataclass(frozen=True)
class Mistake:
    """One mistake in a document."""

    steps: Steps
    said: str
    """`what is wrong; wanted form`; may quote values of the document."""
    form: str
    """The wanted form alone, without any value of the document."""
    value: object = _ABSENT
    """The value in the document."""
    quoted: bool = False
    """Whether the value is shown as JSON, since its type is wrong."""
    meant: Steps | None = None
    """Path of the key that a misspelt one was meant to be."""

    @property
    def key(self) -> str:
        """The setting's full key."""
        return key_text(self.steps)

    @property
    def has_value(self) -> bool:
        """Whether a value is shown: not that of an unknown key, which may be a misspelt secret."""
        return self.value is not _ABSENT

    @property
    def line(self) -> str:
        """The message, as one line."""
        if not self.has_value:
            return one_line(f"{self.key}: {self.said}")
        shown = _shown(self.value, quoted=self.quoted)
        return one_line(f"{self.key}: {shown}: {_without_value(self.said, self.value)}")


def mistakes_of(error: ValidationError, model: type[BaseModel], document: object) -> Iterator[Mistake]:
    """The mistakes in a document, in pydantic's order.

    Args:
        error: the error of `model.model_validate(document)`.
        model: the document's model.
        document: the document as it was read.
    """
    found = [*_found(error, model, document)]
    meant = {each.meant for each in found}
    # One line for one mistake: a misspelt key is missing too.
    return (each for each in found if each.steps not in meant)


def nulls_of(model: type[BaseModel], document: object, steps: Steps = ()) -> Iterator[Mistake]:
    """A mistake for each null inside a document: what it leaves out is not what its author sees in the file."""
    if steps and _place(model, steps).type is object:
        # An unknown key: pydantic's own mistake says so.
        return
    if document is None:
        form = form_of(model, steps)
        place = _place(model, steps).type
        section = isinstance(place, type) and issubclass(place, BaseModel)
        if section and not any(field.is_required() for field in place.model_fields.values()):
            form += ", {} for the defaults"
        yield Mistake(steps, f"wanted {form}, or no such key", form, None)
    elif isinstance(document, dict | list):
        for step, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from nulls_of(model, value, (*steps, step))


def _found(error: ValidationError, model: type[BaseModel], document: object) -> Iterator[Mistake]:
    for each in error.errors(include_url=False):
        steps = each["loc"]
        # Pydantic names a default that it validates by the field's Python name.
        named = steps and each["type"] != "extra_forbidden"
        field = model.model_fields.get(str(steps[0])) if named else None
        steps = (str(field.alias), *steps[1:]) if field else steps
        cause = each.get("ctx", {}).get("error")
        if not isinstance(cause, FlawsError):
            yield _mistake(each, steps, model, document)
            continue
        for flaw in cause.flaws:
            place = flaw.steps if flaw.elsewhere else (*steps, *flaw.steps)
            found = _at(document, place)
            value = flaw.value if found is None else found
            yield Mistake(place, flaw.text, form_of(model, place), value)


def _mistake(error: ErrorDetails, steps: Steps, model: type[BaseModel], document: object) -> Mistake:
    form = form_of(model, steps)
    if error["type"] == "extra_forbidden":
        siblings = sorted(_keys(_place(model, steps[:-1]).type))
        first = re.split(r"[.\[]", str(steps[-1]))[0]
        if first != steps[-1] and first in siblings:
            path = f"{key_text(steps[:-1])}.{steps[-1]}" if steps[:-1] else steps[-1]
            said = f"a path as a key; wanted `pulumi config set --path {path}`"
            return Mistake(steps, said, form, meant=(*steps[:-1], first))
        if key := _meant(str(steps[-1]), siblings, _at(document, steps[:-1])):
            return Mistake(steps, f"unknown key; wanted {key}", form, meant=(*steps[:-1], key))
        return Mistake(steps, f"unknown key; wanted one of {', '.join(siblings)}", form)
    if error["type"] == "missing":
        return Mistake(steps, f"not set; wanted {form}", form)
    said = _said(error, form)
    return Mistake(steps, said, form, error["input"], quoted=error["type"] in _NOT_OF_TYPE)


def _meant(misspelt: str, siblings: Iterable[str], given: Any) -> str | None:
    """The most similar of the keys that an object lacks, whatever its case and its namespace; None if none is."""
    absent = {key.rpartition(":")[2].lower(): key for key in siblings if key not in given}
    near = get_close_matches(misspelt.lower(), absent, n=1, cutoff=0.75)
    return absent[near[0]] if near else None


def _said(error: ErrorDetails, form: str) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "too_long":
            return f"{context['actual_length']} of them; wanted {context['max_length']} at most"
        case "too_short":
            return f"wanted {context['min_length']} or more"
    # Otherwise digits or `true` in quotes would look right.
    text = "text" if isinstance(error["input"], str) and error["type"] in _NOT_IN_TEXT else ""
    wrong = ", ".join(filter(None, (text, _NOT_OF_TYPE.get(error["type"]), _WRONG.get(error["type"]))))
    return f"{wrong}; wanted {form}" if wrong else f"wanted {form}"


NO_FILE: Final = "no_file"
"""Error type of a path without a file."""
_WRONG: Final[Mapping[str, str]] = {NO_FILE: "no such file"}
"""Text of a mistake in a value of the right type, by error type."""
_NOT_OF_TYPE: Final[Mapping[str, str]] = {
    "bool_type": "",
    "dict_type": "not an object",
    "float_type": "not a number",
    "int_type": "not a whole number",
    "model_type": "not an object",
    "path_type": "not a path",
    "string_type": "not text",
    "tuple_type": "not a list",
    "uuid_type": "not text",
}
"""Text of a mistake in a value of the wrong type, by pydantic's error type; empty if the form says it."""
_NOT_IN_TEXT: Final = frozenset({"bool_type", "float_type", "int_type"})
"""Error types of values that a person may have put in quotes by mistake."""


def form_of(model: type[BaseModel], steps: Steps) -> str:
    """The form that a value must have, in words.

    Args:
        model: the document's model.
        steps: path of the value.
    """
    return _form(_place(model, steps))


def section_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The model of the section that a field holds, directly or in a list; empty if it holds a plain value."""

    def search(annotation: object) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [found for argument in get_args(annotation) for found in search(argument)]

    return search(field.annotation)


def key_text(steps: Steps) -> str:
    """A path as Pulumi writes it: `peers[2].asn`, `tags["cost centre"]`."""
    return "".join(map(_step, steps)).removeprefix(".") or "the document"


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_KEY.fullmatch(step) else f"[{json.dumps(step, ensure_ascii=False)}]"


@dataclass(frozen=True)
class _Place:
    """The declared type of a value, with its annotations."""

    type: Any
    metadata: tuple[Any, ...] = ()
    description: str = ""


def _place(model: type[BaseModel], steps: Steps) -> _Place:
    place = _Place(model)
    for step in steps:
        place = _inside(place, step)
    return place


def _inside(place: _Place, step: int | str) -> _Place:
    if isinstance(place.type, type) and issubclass(place.type, BaseModel):
        field = next((each for each in place.type.model_fields.values() if each.alias == step), None)
        if field is None:
            return _Place(object)
        return _plain(field.annotation, tuple(field.metadata), field.description or "")
    arguments = get_args(place.type)
    # A list's values and an object's are of the last type, before a list's `...`.
    inner = [each for each in arguments if each is not Ellipsis]
    return _plain(inner[-1], (), place.description) if inner else _Place(object)


def _plain(annotation: Any, metadata: tuple[Any, ...], description: str) -> _Place:
    """A type without `| None` and `Annotated`, whose annotations are added to the metadata."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        fields = (each.metadata if isinstance(each, FieldInfo) else [each] for each in arguments[1:])
        inner = [part for parts in fields for part in parts]
        return _plain(arguments[0], (*metadata, *inner), description)
    if origin in (Union, UnionType):
        return _plain(next(each for each in arguments if each is not NoneType), metadata, description)
    return _Place(annotation, metadata, description)


def _form(place: _Place) -> str:  # noqa: PLR0911
    stated = [each.text for each in place.metadata if isinstance(each, Form)]
    if stated:
        # The outermost: a field's own form before that of its type.
        return stated[-1]
    origin = get_origin(place.type)
    if origin is tuple:
        return f"a list, each {_form(_inside(place, 0))}"
    if origin is dict:
        return f"an object, each value {_form(_inside(place, ''))}"
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(place.type)))}"
    if issubclass(place.type, BaseModel):
        return f"{{{', '.join(_keys(place.type))}}}"
    if issubclass(place.type, Enum):
        return f"one of {', '.join(str(each.value) for each in place.type)}"
    for type_, form in _FORMS.items():
        if issubclass(place.type, type_):
            return f"{form}{_bounds(place.metadata)}"
    return place.description.replace("`", "") or "text"


_FORMS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    UUID: "a GUID such as 5f0c2d6e-1a7b-4c3d-9e8f-0a1b2c3d4e5f",
    IPv4Network: "an IPv4 network such as 10.20.0.0/16, without host bits",
    Path: "the path of a file",
}


def _bounds(metadata: Iterable[Any]) -> str:
    least = most = None
    for each in metadata:
        match each:
            case Ge():
                least = each.ge
            case Le():
                most = each.le
    if least is None:
        return ""
    return f", {least} or more" if most is None else f", {least} to {most}"


def _keys(type_: Any) -> list[str]:
    if not (isinstance(type_, type) and issubclass(type_, BaseModel)):
        return []
    return [str(field.alias) for field in type_.model_fields.values()]


def _at(document: Any, steps: Steps) -> object:
    """The value at a path; None if there is none, or if it is null."""
    for step in steps:
        try:
            document = document[step]
        except (LookupError, TypeError):
            return None
    return document


def _shown(value: object, *, quoted: bool) -> str:
    plain = False
    if isinstance(value, str):
        # Broken JSON is not escaped once more.
        plain = value[:1] in ("{", "[") or (value.strip() == value != "" and not quoted)
    text = str(value) if plain else json.dumps(value, default=str, ensure_ascii=False)
    # A pattern that ends with the `@` would read the rest of a long text after each colon.
    user, at, rest = text.rpartition("@")
    text = _USERINFO.sub(r"\1***", user, count=1) + at + rest
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _without_value(said: str, value: object) -> str:
    """A message without the value that it begins with: the line shows the value already."""
    for shown in (str(value), repr(value), ascii(value)[:_MAX_SHOWN]):
        if said.startswith((f"{shown} ", f"{shown}; ")):
            return said.removeprefix(shown).removeprefix(";").lstrip().removeprefix("is ")
    return said
