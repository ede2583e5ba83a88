"""Reads a card, or all outputs of a stack, from a file in any encoding that shells and editors write."""

import codecs
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from stack.outputs import CARD_OUTPUT

MAX_FILE_BYTES: Final = 1024 * 1024
"""A larger file is neither a card nor a stack's outputs, and is not read to its end."""

_CARD_COMMAND: Final = f"`pulumi stack output {CARD_OUTPUT} --json`"
_OUTPUTS_COMMAND: Final = "`pulumi stack output --json`"
# The longer byte order mark first: UTF-32's begins like UTF-16's.
_ENCODINGS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_card_file(path: Path) -> Any:
    """Read the JSON value of a file in UTF-8, UTF-16 or UTF-32, which PowerShell's `>` may write.

    Raises:
        ValueError: the file can't be read, is not JSON, or holds all of a stack's outputs; the message says what was
            wanted.
    """
    document = read_json(path, _CARD_COMMAND)
    if isinstance(document, dict) and "schema" not in document and isinstance(document.get(CARD_OUTPUT), dict):
        raise ValueError(f"holds all outputs of the stack; wanted its output `{CARD_OUTPUT}` alone: {_CARD_COMMAND}")
    return document


def read_outputs_file(path: Path) -> dict[str, Any]:
    """Read all outputs of a member's stack from a file in such an encoding.

    Raises:
        ValueError: the file can't be read, is not JSON, or has no membership card among its outputs; the message says
            what was wanted.
    """
    document = read_json(path, _OUTPUTS_COMMAND)
    if not isinstance(document, dict) or not isinstance(document.get(CARD_OUTPUT), dict):
        raise ValueError(f"has no output `{CARD_OUTPUT}`; wanted what {_OUTPUTS_COMMAND} prints")
    return document


def read_json(path: Path, command: str) -> Any:
    """Read the JSON value of a file in such an encoding.

    Args:
        path: the file.
        command: the command that prints such a file, for messages.

    Raises:
        ValueError: the file can't be read, or is not JSON; the message says what was wanted.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{error.strerror}; wanted a file that can be read") from error
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes; wanted what {command} prints")
    encoding = next((encoding for mark, encoding in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}; wanted the file saved as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("UTF-16 without its mark, or not text; wanted the file saved as UTF-8")
    if not text.strip():
        raise ValueError(f"the file is empty; wanted what {command} prints")
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}; wanted what {command} prints") from error
