"""Lists or sets aside messages of a stopped Corda node: `python -m agent.messages list NODE`, or `set-aside NODE ID`.

No message is set aside automatically: most are honest, and an attacker would choose which get lost.
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from agent.share import LedgerShare, LockedFolder
from contract.vm_configuration import AGENT_FILE
from host.errors import UnavailableError
from host.vm_configuration import ConfigurationError, read_agent_configuration
from ledger.corda.installation import InstallationError, Installed, ToolError

LOCK_SECONDS = 120
"""The agent locks the folder for a moment at each attempt to start; a node locks it for as long as it runs."""
_ARTEMIS = "artemis"
_ASIDE = "set-aside"


def list_messages(installed: Installed, folder: Path) -> list[dict[str, Any]]:
    """The messages in a node's queues, as the tool prints them: id, bytes, queue, sender, sent, refused.

    Args:
        installed: the Corda installation.
        folder: the identity's folder of its last epoch.

    Raises:
        ToolError: the queues can't be read.
    """
    artemis = folder / _ARTEMIS
    answer = asyncio.run(installed.tool("messages", {"folder": str(artemis)}, user=_owner(artemis)))
    return list(answer["messages"])


def set_aside(installed: Installed, folder: Path, number: int) -> Path:
    """Move a message from its queue to a file below `set-aside`, which stays in the identity's folder.

    Args:
        installed: the Corda installation.
        folder: the identity's folder of its last epoch.
        number: the message's id, as listed.

    Raises:
        ToolError: no such message exists, or its file exists already.
    """
    artemis, aside = folder / _ARTEMIS, folder / _ASIDE
    aside.mkdir(mode=0o700, exist_ok=True)
    if owner := _owner(artemis):
        os.chown(aside, owner, owner)
    file = aside / f"{number}.message"
    given = {"folder": str(artemis), "id": number, "file": str(file)}
    asyncio.run(installed.tool("set-aside", given, user=owner))
    return file


def main(arguments: list[str]) -> int:
    """Run the command with the VM's configuration; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agent.messages")
    parser.add_argument("--configuration", type=Path, default=AGENT_FILE)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what lies in a node's queues").add_argument("identity")
    aside = commands.add_parser("set-aside", help="take one message from its queue, and keep it in a file")
    aside.add_argument("identity")
    aside.add_argument("id", type=int)
    given = parser.parse_args(arguments)
    try:
        configuration = read_agent_configuration(given.configuration)
        share, installed = LedgerShare(configuration.share), Installed.load(configuration.installation)
        folder = _lock(share, given.identity)
        try:
            if given.command == "list":
                for each in list_messages(installed, folder.path):
                    print(_line(each))  # noqa: T201
            else:
                print(f"message {given.id} is in {set_aside(installed, folder.path, given.id)}")  # noqa: T201
        finally:
            folder.close()
    except (ConfigurationError, InstallationError, ToolError, UnavailableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return os.EX_OK


def _line(message: dict[str, Any]) -> str:
    refused = f"; can't be read: {message['refused']}" if message["refused"] else ""
    sent = f"  sent {message['sent']}" if message["sent"] else ""
    return "{id}  {bytes} bytes  {queue}  from {sender}".format(**message) + sent + refused


def _owner(artemis: Path) -> int | None:
    """User that the tool runs as: the node could not overwrite files of root.

    The folder's owner is the agent, and its group the node's, whose number is also the node's user.
    """
    return artemis.stat().st_gid if os.geteuid() == 0 else None


def _lock(share: LedgerShare, identity: str) -> LockedFolder:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return share.newest(identity)
        except UnavailableError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
