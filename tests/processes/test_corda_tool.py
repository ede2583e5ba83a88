"""The Java tool on a real installation of Corda."""

import asyncio
import base64
import json
from typing import Any

import pytest

from lab.banks import corda, hostile
from ledger.corda.installation import (
    Installed,
    ToolError,
)


@pytest.fixture(scope="module")
def real() -> Installed:
    if why := corda.missing():
        pytest.skip(why)
    return corda.load()


def test_a_real_installation_passes_its_verification(real: Installed) -> None:
    real.verify(corda.VERSION)
    assert len(real.manifest.files) > 150, "Corda's libraries are part of it"


def test_parameters_are_signed_outside_of_java_and_verified_by_corda(real: Installed) -> None:
    async def run() -> None:
        network, other = corda.CordaNetwork(real, "127.0.0.1"), corda.CordaNetwork(real, "127.0.0.1", "Other")
        document = await network.sign_parameters(epoch=3, platform=12)
        given = {"document": base64.b64encode(document).decode(), "trustRoot": corda.encoded(network.root)}
        read = await real.tool("verify-parameters", given)
        assert (read["epoch"], read["minimumPlatformVersion"], read["notaries"]) == (3, 12, []), (
            "the signed parameters are read"
        )
        with pytest.raises(ToolError, match=r"\w"):
            await real.tool("verify-parameters", given | {"trustRoot": corda.encoded(other.root)})
        changed = bytearray(document)
        changed[len(changed) // 2] ^= 1
        with pytest.raises(ToolError, match=r"\w"):
            await real.tool("verify-parameters", given | {"document": base64.b64encode(changed).decode()})

    asyncio.run(run())


@pytest.mark.parametrize(
    ("command", "given", "reason"),
    [
        ("node-info", {"documents": [base64.b64encode(b"x" * 99).decode()]}, "it is no SignedNodeInfo: "),
        ("verify-parameters", {}, "No configuration setting found for key 'document'"),
        ("rule", {}, "command 'rule'; wanted parameters, sign-parameters, "),
        (
            "node-info",
            {"documents": [base64.b64encode(b"corda\1\0\0" + hostile.nulls(0x7FFFFFFF)).decode()]},
            "2147483647 elements are claimed",
        ),
    ],
)
def test_the_tool_refuses_in_one_line(real: Installed, command: str, given: dict[str, Any], reason: str) -> None:
    root = corda.encoded(corda.CordaNetwork(real, "127.0.0.1").root)
    with pytest.raises(ToolError) as refused:
        asyncio.run(real.tool(command, {"trustRoot": root, **given}))
    assert reason in str(refused.value), json.dumps(str(refused.value))
    assert "\n" not in str(refused.value), "the message goes into the agent's log"


def test_a_tool_that_does_not_answer_is_killed(real: Installed) -> None:
    with pytest.raises(ToolError, match=r"^parameters: no answer in 0 s$"):
        asyncio.run(real.tool("parameters", {}, seconds=0.05))
