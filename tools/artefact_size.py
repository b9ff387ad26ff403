"""Shows the size of a built function, and checks Lambda's limits: the end of `make build`."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.output import out
from image_pipeline.errors import CommandError
from thumbnailer.build_check import STAMP

MAX_UNZIPPED: Final = 250 * 2**20
MAX_ZIPPED: Final = 50 * 2**20
"""Bytes of a function with its layers, and of a zip that is uploaded to Lambda directly
(https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""

SHOWN: Final = 8
"""Number of parts with a line of their own; the others share one."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Part:
    """A file or folder at the top of an artefact; sizes in bytes."""

    name: str
    unzipped: int
    zipped: int


@app.command()
def show_size(
    artefact: Annotated[
        Path, typer.Argument(metavar="ARTEFACT", help="The folder that `sam build` has made.")
    ],
) -> None:
    """Show the size of a built function and of its largest parts, unzipped and as Lambda gets it.

    The exit code is 1 if it is larger than Lambda allows.

    **Example**

    `python -m tools.artefact_size .aws-sam/build/ThumbnailFunction`
    """
    found = parts(artefact)
    show(artefact, found)
    check_limits(found)


def parts(artefact: Path) -> list[Part]:
    """The sizes of every part of a built function, largest zip first.

    Raises CommandError if `artefact` is not a built function.
    """
    if not (artefact / STAMP).is_file():
        raise CommandError(f"There is no built function in {artefact}. Build it: `make build`.")
    found = [_measured(entry) for entry in artefact.iterdir()]
    return sorted(found, key=lambda part: (-part.zipped, part.name))


def check_limits(found: Sequence[Part]) -> None:
    """Raise CommandError if all parts together exceed a limit of Lambda."""
    unzipped, zipped = _sums(found)
    for size, limit, what in (
        (unzipped, MAX_UNZIPPED, "unzipped"),
        (zipped, MAX_ZIPPED, "zipped, in a direct upload"),
    ):
        if size > limit:
            raise CommandError(
                f"The function has {_mb(size)} MB {what}; Lambda's limit is {_mb(limit)} MB. Its "
                "largest parts are listed above: remove a library from lambda/requirements.in."
            )


def show(artefact: Path, found: Sequence[Part]) -> None:
    """Print a line for each of the largest parts, and one for all."""
    architecture = json.loads((artefact / STAMP).read_text())["architecture"]
    table = Table("part", "unzipped", "zipped", title=f"The function for {architecture}, in MB")
    for column in table.columns[1:]:
        column.justify = "right"
    named, others = found[:SHOWN], found[SHOWN:]
    for part in named:
        table.add_row(escape(part.name), _mb(part.unzipped), _mb(part.zipped))
    if others:
        table.add_row(f"[dim]{len(others)} others[/]", *map(_mb, _sums(others)))
    table.add_section()
    table.add_row("[bold]together[/]", *map(_mb, _sums(found)))
    out.print(table)


def _measured(entry: Path) -> Part:
    """Measure a part in a zip of its own, with the compression that sam uses."""
    files = [entry] if entry.is_file() else [each for each in entry.rglob("*") if each.is_file()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(entry.parent))
    return Part(entry.name, sum(file.stat().st_size for file in files), buffer.tell())


def _sums(found: Sequence[Part]) -> tuple[int, int]:
    return sum(part.unzipped for part in found), sum(part.zipped for part in found)


def _mb(size: int) -> str:
    return f"{size / 2**20:,.2f}"  # Lambda counts 2^20 bytes as one MB


if __name__ == "__main__":
    run_app(app)
