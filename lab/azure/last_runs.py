"""The result of each stack's last run of a command, in a file, for `AGAINST=last`."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

from lab.azure.stack_file import StackFileError

_Content = TypeVar("_Content")


def save(directory: Path, stack: str, schema: int, content: object) -> None:
    """Replace a stack's saved result, atomically.

    Args:
        directory: the folder with a file for each stack.
        stack: the stack's name.
        schema: version of the content's format.
        content: the result, as JSON values.

    Raises:
        OSError: the file can't be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=directory, suffix=".new", delete=False) as temporary:
        json.dump({"schema": schema, "content": content}, temporary)
    Path(temporary.name).replace(directory / f"{stack}.json")


def load(
    directory: Path, stack: str, schema: int, read: Callable[[Any], _Content], *, what: str, command: str
) -> _Content:
    """A stack's last saved result.

    Args:
        directory: the folder that `save` wrote to.
        stack: the stack's name.
        schema: the format version that `read` accepts.
        read: converts the saved JSON values to the result.
        what: the result's name in an error message.
        command: the command that saves such a result, for an error message.

    Raises:
        StackFileError: nothing is saved, another release wrote the file, or the file is damaged.
    """
    path = directory / f"{stack}.json"
    wanted = f"wanted a `{command}` without AGAINST first"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != schema:
            raise StackFileError(f"{path}: another release's {what}; {wanted}")
        return read(document["content"])
    except FileNotFoundError as error:
        raise StackFileError(f"no {what} of {stack} is saved; {wanted}") from error
    except OSError as error:
        raise StackFileError(f"{path}: {error.strerror}; {wanted}") from error
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise StackFileError(f"{path}: can't be read: {error!r}; {wanted}") from error
