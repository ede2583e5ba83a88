"""Reads a peer's card from a file, in the encodings in which people save it."""

import codecs
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

CARD_OUTPUT: Final = "member"
"""Stack output that holds a member's card."""
MAX_FILE_BYTES: Final = 1024 * 1024
"""A larger file is no card, and is not read to its end."""

_COMMAND: Final = f"`pulumi stack output {CARD_OUTPUT} --json`"
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
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{error.strerror}; wanted a file that can be read") from error
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes; wanted what {_COMMAND} prints")
    encoding = next((encoding for mark, encoding in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} is no {encoding.removesuffix('-sig').upper()}; wanted the file saved as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("UTF-16 without its mark, or no text; wanted the file saved as UTF-8")
    if not text.strip():
        raise ValueError(f"the file is empty; wanted what {_COMMAND} prints")
    try:
        document = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"{error}; wanted what {_COMMAND} prints") from error
    if isinstance(document, dict) and "schema" not in document and isinstance(document.get(CARD_OUTPUT), dict):
        raise ValueError(f"holds all outputs of the stack; wanted its output `{CARD_OUTPUT}` alone: {_COMMAND}")
    return document
