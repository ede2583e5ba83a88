"""Draws a member or a consortium from what its stacks register, as Mermaid or as SVG.

`python -m docs.diagrams STACK|FILE|FOLDER` draws a member, or the consortium that a folder's `consortium.yaml` lists.
Without an argument it writes those of the documents' pictures that are stale, and names them.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pulumi

from docs.diagrams.mermaid import mermaid
from docs.diagrams.picture import Picture
from docs.diagrams.planned import planned_picture
from docs.diagrams.svg import NoGraphvizError, is_drawn_from, svg
from lab import ROOT
from lab.azure.consortium import SAMPLE_CONSORTIUM
from lab.azure.rules import AzureError
from lab.azure.stack_file import StackFileError
from lab.command import OptionError, Parser, one_of

PICTURES: Mapping[str, str] = {"member": "prod", "consortium": str(SAMPLE_CONSORTIUM)}
"""The stack or folder of each picture in the documents, by the name of its files."""
IMAGES = ROOT / "docs" / "images"

_SVG = ".svg"
_FORMATS: Mapping[str, Callable[[Picture], str]] = {"mermaid": mermaid, "svg": svg}


def main(arguments: Sequence[str]) -> int:
    """Draw one picture, or those of the documents; returns the exit status."""
    try:
        options = _parser().parse_intermixed_args(arguments)
        if len(options.stacks) > 1:
            raise OptionError(f"{', '.join(options.stacks)}: {len(options.stacks)} of them; wanted one, or a folder")
        if options.stacks:
            _draw(options.stacks[0], options.format, options.out)
        elif options.format or options.out:
            raise OptionError("nothing to draw; wanted STACK, its file or a consortium's folder")
        else:
            written = [
                path.relative_to(ROOT)
                for name, what in PICTURES.items()
                for path in bring_up_to_date(name, planned_picture(what))
            ]
            sys.stdout.writelines(f"{path}: written\n" for path in written)
            sys.stdout.write("" if written else "all up to date\n")
    except (AzureError, NoGraphvizError, OptionError, StackFileError, pulumi.RunError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def bring_up_to_date(name: str, picture: Picture) -> Iterator[Path]:
    """Write the stale ones of a picture's two files in `docs/images`; returns them.

    Raises:
        NoGraphvizError: the SVG is stale, and Graphviz is not installed.
    """
    for path in stale_files(name, picture):
        path.write_text(svg(picture) if path.suffix == _SVG else mermaid(picture), encoding="utf-8")
        yield path


def stale_files(name: str, picture: Picture) -> list[Path]:
    """The stale or missing ones of a picture's two files in `docs/images`."""
    text, drawn = IMAGES / f"{name}.mmd", IMAGES / f"{name}{_SVG}"
    stale = [] if text.is_file() and text.read_text(encoding="utf-8") == mermaid(picture) else [text]
    return stale if drawn.is_file() and is_drawn_from(drawn.read_text(encoding="utf-8"), picture) else [*stale, drawn]


def _draw(what: str, name: str, out: str) -> None:
    name = name or ("svg" if out.endswith(_SVG) else "mermaid")
    text = _FORMATS[one_of("format", name, _FORMATS)](planned_picture(what))
    if not out:
        sys.stdout.write(text)
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{out}: can't be written: {error.strerror}; wanted a file that can") from error


def _parser() -> Parser:
    parser = Parser("python -m docs.diagrams", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("stacks", nargs="*", metavar="STACK|FILE|FOLDER")
    parser.add_argument(
        "--format", default="", metavar="|".join(_FORMATS), help="by default as FILE ends, else mermaid"
    )
    parser.add_argument("--out", default="", metavar="FILE", help="by default standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
