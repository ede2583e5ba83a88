"""Processes that read other members' data, and that a member may have taken over: what they can do to the agent."""

import asyncio
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from host import processes
from host.processes import run_to_end
from ledger.corda.installation import Installed, ToolError

pytestmark = pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv here; wanted util-linux")
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def run(script: str, given: str = "", seconds: float = 60) -> tuple[int, bytes, list[str]]:
    async def bounded() -> tuple[int, bytes, list[str]]:
        async with asyncio.timeout(seconds):
            return await run_to_end(("sh", "-c", script), None, environment=ENVIRONMENT, given=given)

    return asyncio.run(bounded())


def test_a_process_gets_its_input_and_returns_its_output() -> None:
    large = "x" * 300_000
    assert run("cat; echo bad >&2; exit 3", large) == (3, large.encode(), ["bad"]), "more than a pipe holds"
    assert run("exit 1", large) == (1, b"", []), "it need not read its input"


@pytest.mark.parametrize(("script", "most"), [("yes", 1 << 20), ("yes >&2", 1 << 16)], ids=["output", "errors"])
def test_endless_output_does_not_use_up_the_memory(script: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(ValueError, match=f"{most} bytes printed; wanted less"):
        run(script)


@pytest.mark.parametrize(
    "script",
    ["setsid sleep 20 & exec sleep 20", "exec 3<&0; setsid sleep 20 <&3 >/dev/null 2>&1 & exec sleep 20"],
    ids=["with the output", "with unread input"],
)
def test_a_process_that_it_left_does_not_hang_the_agent(script: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run(script, "x" * 300_000, seconds=1)
    assert time.monotonic() - began < 10, "it keeps its end of a pipe open for as long as it likes"


def test_a_refusal_that_quotes_a_member_is_cut(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n{ printf 'refused: '; head -c 900000 /dev/zero | tr '\\0' x; } >&2\nexit 1\n")
    java.chmod(0o755)
    manifest: Any = SimpleNamespace(java_home=tmp_path, options=(), classpath=())
    with pytest.raises(ToolError, match=r"^x{1000}$"):
        # Each round logs it as a warning, and the VM's health reports it.
        asyncio.run(Installed(tmp_path, manifest).tool("node-info", {}))
