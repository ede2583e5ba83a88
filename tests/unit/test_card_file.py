"""A peer's card as a file, in each form in which shells and editors save it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.card_file import MAX_FILE_BYTES, read_card_file, read_outputs_file

CARD: dict[str, Any] = {"schema": "1.1", "name": "bank-b", "location": "Zürich"}


def read(folder: Path, content: bytes) -> Any:
    path = folder / "card.json"
    path.write_bytes(content)
    return read_card_file(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_of_shells_are_read(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(CARD, ensure_ascii=False, indent=2) + "\r\n"
    assert read(tmp_path, text.encode(encoding)) == CARD, "PowerShell's `>` writes UTF-16 or a byte-order mark"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(CARD).encode("utf-16-le"), r"UTF-16 without its mark.*wanted the file saved as UTF-8"),
        (
            json.dumps(CARD, ensure_ascii=False).encode("latin-1"),
            "byte .* is not UTF-8; wanted the file saved as UTF-8",
        ),
        (b"\xff\xfe{", "is not UTF-16; wanted the file saved as UTF-8"),
        (b"", "the file is empty; wanted what `pulumi stack output member --json` prints"),
        (b"\xef\xbb\xbf \r\n", "the file is empty"),
        (b"[" * 100_000, "recursion limit exceeded.*wanted what `pulumi stack output member --json`"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "number out of range.*wanted what"),
        (b'{"schema": NaN}', "wanted what"),
        (rb'{"schema": "\ud800"}', "wanted what"),
        (b"error: no stack selected", "not JSON: expected value at line 1.*wanted what"),
        (b" " * (MAX_FILE_BYTES + 1), f"more than {MAX_FILE_BYTES} bytes"),
        (
            json.dumps({"member": CARD, "fingerprint": "sha256:0", "resourceGroup": "bank-b"}).encode(),
            "all outputs of the stack; wanted its output `member` alone: `pulumi stack output member --json`",
        ),
    ],
)
def test_a_file_that_is_no_card_gets_one_message_that_says_what_to_do(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, content)
    assert len(str(raised.value)) < 300, "one line, however long the file"
    assert "codec" not in str(raised.value), "without a library's wording"


def test_a_file_of_all_outputs_is_read_for_its_card_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"member": CARD, "links": {}}), encoding="utf-16")
    assert read_outputs_file(path) == {"member": CARD, "links": {}}, "PowerShell's `>` writes UTF-16"
    wanted = "has no output `member`; wanted what `pulumi stack output --json` prints"
    others: list[Any] = [CARD, {"member": "bank-a"}, [], "member"]
    for other in others:
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=wanted):
            read_outputs_file(path)


@pytest.mark.parametrize("path", [Path("/nowhere/card.json"), Path("/tmp"), Path("/tmp/" + "x" * 5000)])  # noqa: S108
def test_a_file_that_can_not_be_read_is_reported(path: Path) -> None:
    with pytest.raises(ValueError, match="wanted a file that can be read"):
        read_card_file(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_one_message(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    message = ""
    try:
        read(tmp_path_factory.getbasetemp(), content)
    except ValueError as error:
        message = str(error)
    assert not message or "; wanted " in message, "each message says what is wanted"
