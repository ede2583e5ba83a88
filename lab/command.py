"""Arguments and exit status of the commands that plan stacks."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn


class OptionError(Exception):
    """A command's arguments are wrong; the message is one line: `what is wrong; wanted form`."""


class Parser(ArgumentParser):
    """An argument parser that raises `OptionError` instead of printing its usage and ending the process."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            OptionError: always.
        """
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise OptionError(f"{message}; wanted {usage}")


def one_of(name: str, value: str, known: Collection[str]) -> str:
    """An option's value.

    Raises:
        OptionError: it is not a known value.
    """
    if value in known:
        return value
    *most, last = known
    raise OptionError(f"{name} {value}; wanted {', '.join(most)} or {last}")


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command with the process's arguments, and end the process with the status that it returns.

    A reader that closes the pipe, as `head` does, is status 1.
    """
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 1
    # Python would take the SDK's modules apart, which takes a tenth as long as a plan.
    os._exit(status)
