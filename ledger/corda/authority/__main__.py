"""A network's authority on a VM: `ledger-authority [COMMAND] [--configuration FILE]`."""

import argparse
import asyncio
import getpass
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from contract.authority_configuration import AuthorityConfiguration
from contract.vm_configuration import AUTHORITY_FILE
from host import journal
from host.errors import DamagedError, UnavailableError
from host.vm_configuration import ConfigurationError
from ledger.corda.authority.authority import Authority, RequestRefusedError
from ledger.corda.authority.configuration import read_authority_configuration
from ledger.corda.authority.register import RequestRecord, request_id
from ledger.corda.authority.vm import Connect, connect
from ledger.corda.authority.vm import run as run_service

# An Entra user principal name, or an object id.
_PRINCIPAL = re.compile(r"[^@\s,]{1,64}@[A-Za-z0-9.-]{1,253}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


_SHOWN = 3
"""Requests of a member that `pending` lists: Azure returns the last 4,096 bytes of a command's output."""


async def _command(given: argparse.Namespace, authority: Authority, by: str) -> None:
    match given.command:
        case "pending":
            waiting = [each for each in await authority.pending() if given.member in {None, each.member}]
            for line in _pending(waiting, len(waiting) if given.member else _SHOWN):
                _say(line)
            if not waiting:
                _say("no request waits for approval")
        case "list":
            for each in await authority.requests():
                _say(_line(each))
        case "approve":
            _say(f"approved: {_line(await authority.approve(request_id(given.id), by))}")
        case "reject":
            _say(f"rejected: {_line(await authority.reject(request_id(given.id), given.reason, by))}")
        case "revoke":
            for issued in await authority.revoke(given.name, by):
                _say(f"revoked: {issued.role} {issued.serial}, key {issued.key_hash}")
        case "revoke-ca":
            await authority.revoke_identity_ca(given.key, by)
            _say(f"revoked: {given.key}; the root's list says so once the root is open")


def _pending(waiting: Sequence[RequestRecord], shown: int) -> Iterator[str]:
    """A line for each of a member's oldest requests, so that no member hides those of another."""
    for member in sorted({each.member for each in waiting}):
        several = [each for each in waiting if each.member == member]
        yield from map(_line, several[:shown])
        if several[shown:]:
            yield f"{member}: {len(several) - shown} more, which `pending {member}` lists"


def _line(record: RequestRecord) -> str:
    """A request in one line, with its last decision: a pending one was taken back."""
    asked = f"{record.id}  {record.asked}  {record.member}  {record.role}  {record.legal_name}  key {record.key_hash}"
    return asked + (f"  {record.state} {record.decided} by {record.by}" if record.by else "")


def _decider(stated: str | None) -> str:
    """The person who decides, as recorded in the register.

    On a VM where somebody signed in, sudo names the user. Azure's run-command runs as root: then `--by` names the
    person, and Azure's activity log names the token's owner.

    Raises:
        ValueError: nobody is named, or not by a name of Entra's.
    """
    signed_in = os.environ.get("SUDO_USER")
    if stated is None:
        if signed_in:
            return signed_in
        raise ValueError("who decides is recorded; wanted --by with your user principal name or object id")
    if not _PRINCIPAL.fullmatch(stated):
        raise ValueError(
            f"--by {stated[:80]!r}; wanted a user principal name such as alice@bank.example, or an object id"
        )
    return f"{stated}, stated by {signed_in or getpass.getuser()}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ledger-authority", description="A network's authority.")
    parser.set_defaults(command="serve", configuration=AUTHORITY_FILE)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--configuration", type=Path, default=AUTHORITY_FILE, metavar="FILE", help=f"default: {AUTHORITY_FILE}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serve = commands.add_parser("serve", help="answer members until SIGTERM (the default)")
    serve.add_argument(
        "configuration",
        type=Path,
        nargs="?",
        default=AUTHORITY_FILE,
        metavar="FILE",
        help=f"default: {AUTHORITY_FILE}",
    )
    pending = commands.add_parser("pending", parents=[common], help="the requests that wait for approval")
    pending.add_argument(
        "member", metavar="MEMBER", nargs="?", help=f"all of this member's; without it the {_SHOWN} oldest of each"
    )
    commands.add_parser("list", parents=[common], help="all requests, with who decided them and when")
    decides = argparse.ArgumentParser(add_help=False, parents=[common])
    decides.add_argument(
        "--by", metavar="PRINCIPAL", help="your user principal name or object id; required if you are root"
    )
    approve = commands.add_parser("approve", parents=[decides], help="grant a request")
    approve.add_argument("id", metavar="ID")
    reject = commands.add_parser("reject", parents=[decides], help="refuse a request; the member sees the reason")
    reject.add_argument("id", metavar="ID")
    reject.add_argument("reason", metavar="REASON")
    revoke = commands.add_parser("revoke", parents=[decides], help="revoke all certificates of a legal name")
    revoke.add_argument("name", metavar="NAME")
    revoke_ca = commands.add_parser(
        "revoke-ca", parents=[decides], help="revoke an identity CA that certifies names no more, and all below it"
    )
    revoke_ca.add_argument("key", metavar="KEY", help="its key: identity-ca, or identity-ca-2 and so on")
    given = parser.parse_args(arguments)
    given.command = given.command or "serve"
    return given


def main(arguments: Sequence[str] | None = None, connect: Connect = connect) -> int:
    """Run a command; returns the exit status, 78 (EX_CONFIG) if the configuration is unusable."""
    given = _arguments(arguments)
    journal.set_up(logging.INFO if given.command == "serve" else logging.WARNING)

    async def run(configuration: AuthorityConfiguration, configured: float) -> None:
        if given.command == "serve":
            await run_service(configuration, configured, connect)
            return
        by = _decider(given.by) if "by" in given else ""
        async with connect(configuration, configured) as authority:
            await _command(given, authority, by)

    try:
        asyncio.run(run(*read_authority_configuration(given.configuration)))
    except ConfigurationError as error:
        journal.refuse(error)
        return os.EX_CONFIG
    except (UnavailableError, DamagedError, RequestRefusedError, LookupError, ValueError) as error:
        journal.refuse(error.args[0] if error.args else error)
        return os.EX_UNAVAILABLE if isinstance(error, UnavailableError) else 1
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
