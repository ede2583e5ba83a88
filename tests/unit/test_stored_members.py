"""Untrusted input: members' files on the share."""

from pathlib import Path

import pytest

from ledger.corda import software

INFO = software._Info(
    file_name="nodeInfo-AB12",
    content=b"signed",
    legal_names=("O=Bank B, L=London, C=GB",),
    addresses=("10.0.0.1:10000",),
    serial=1,
    chains=((b"certificate",),),
)


def stored_members(folder: Path, content: bytes) -> object:
    (folder / "members").mkdir()
    (folder / "members" / "bank-b.json").write_bytes(content)
    return software._known_members(folder)


def test_a_stored_member_is_read_again(tmp_path: Path) -> None:
    document = software._StoredMember(member="bank-b", infos=(INFO,))
    assert stored_members(tmp_path, document.model_dump_json(by_alias=True).encode()) == {"bank-b": (INFO,)}


@pytest.mark.parametrize(
    "name", ["../node.conf", "/etc/passwd", "nodeInfo-../x", "nodeInfo-AB\n", "", "network-parameters"]
)
def test_a_file_name_with_a_path_is_refused(tmp_path: Path, name: str) -> None:
    document = software._StoredMember(member="bank-b", infos=(INFO,))
    content = document.model_copy(update={"infos": (document.infos[0].model_copy(update={"file_name": name}),)})
    assert stored_members(tmp_path, content.model_dump_json(by_alias=True).encode()) == {}, (
        f"{name!r} is no name of node information"
    )


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"member": "b", "infos": [null]}', b'{"member": 1e999}', b"\xff"]
)
def test_an_unreadable_members_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    assert stored_members(tmp_path, content) == {}, "the member's agent publishes it again"
