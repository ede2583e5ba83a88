"""Sizes and counts that a message's bytes can't hold are refused before allocation; on Corda's own Proton."""

import base64
import subprocess
from pathlib import Path

import pytest

from lab.banks import corda, hostile
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installation = corda.installed()
    needed = [installation / "tool", *(installation / "lib").glob("proton-j-*.jar")]
    return compiled(tmp_path_factory.mktemp("decoder"), needed, Path(__file__).with_name("DecodeMessages.java"))


def decode(class_path: str, *messages: bytes) -> list[str]:
    # A heap that is too small for the claimed sizes, and a thread's default stack.
    argv = [str(corda.load().manifest.java_home / "bin" / "java"), "-Xmx64m", "-cp", class_path]
    done = subprocess.run(
        [*argv, "ledger.corda.DecodeMessages"],
        input="".join(f"{base64.b64encode(each).decode()}\n" for each in messages),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_a_size_or_count_beyond_the_messages_bytes_is_refused(class_path: str) -> None:
    assert decode(
        class_path,
        hostile.binary(0x7FFFFFFF),
        hostile.listed(hostile.described(hostile.binary(0x7FFFFFFF))),
        hostile.listed(hostile.described(hostile.binary(0xFFFFFFFF))),
        hostile.listed(hostile.listed(b"\x40", count=0x7FFFFFFF)),
        hostile.nulls(0x7FFFFFFF),
        hostile.nested(200_000),
    ) == [
        "2147483647 bytes are claimed of 0",
        "2147483647 bytes are claimed of 0",
        "4294967295 bytes are claimed of 0",
        "2147483647 elements are claimed in 5 bytes",
        "2147483647 elements are claimed in 5 bytes",
        "nested more than 400 deep",
    ], "an exception, which Corda logs, and no error, which would end the node or one of its threads"


def test_a_message_with_true_sizes_is_read(class_path: str) -> None:
    binary = b"\xb0\x00\x00\x00\x03abc"
    honest = [
        binary,
        hostile.listed(hostile.described(binary), b"\x40"),
        hostile.nested(399),
        b"\xb1\x00\x00\x00\x00",
    ]
    assert decode(class_path, *honest) == ["read BINARY", "read LIST", "read LIST", "read STRING"]
