"""Runs the parts of the benchmark one after another, and writes docs/performance.md.

What each part needs is checked first, so that nothing ends after minutes for want of a tool.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from bench.engine import BENCH_PYTHON, SHARP
from bench.limits import LimitUnavailable, limited
from bench.photos import PHOTOS, check_folder, jpegs
from bench.record import load
from bench.thumbs import VIPS
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.output import err, out
from image_pipeline.errors import CommandError
from image_pipeline.local.tools import TOOLS

app = new_app()

BUSY: Final = 0.5
"""Load of the machine above which wall times are not to be trusted."""


def without_limits() -> str | None:
    """Why CPU and memory cannot be limited, or None."""
    try:
        with limited(cpu=0.5, memory_mb=512):
            return None
    except LimitUnavailable as error:
        return f"needs root on Linux with cgroups: {error}"


def without_build() -> str | None:
    """Why the function cannot be built, or None."""
    sam = TOOLS / "sam" / "bin" / "sam"
    return None if sam.exists() else f"{sam} is missing: run make setup"


def without_engines() -> str | None:
    """Why sharp, libvips or the score are missing, or None."""
    for path in (BENCH_PYTHON, SHARP / "node"):
        if not path.exists():
            return f"{path} is missing: run make bench-tools, which downloads it"
    return None


def without_vips() -> str | None:
    """Why there is no vipsthumbnail, or None."""
    return None if shutil.which(VIPS) else f"{VIPS} is missing: run make vipsthumbnail"


def without_photos() -> str | None:
    """Why there are no photos, or None."""
    return None if jpegs() else f"there are no JPEGs in {PHOTOS}: run make bench PHOTOS=FOLDER"


def not_on_linux() -> str | None:
    """Why the CPU time of other processes cannot be counted, or None."""
    return None if sys.platform == "linux" else "needs Linux"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark: modules of this package with their options.

    `minutes` is about how long it takes on two idle cores. `quick` are the options for the fewest
    rounds. Each of `needs` says why the part cannot run, or None.
    """

    name: str
    modules: tuple[tuple[str, ...], ...]
    quick: tuple[tuple[str, ...], ...]
    minutes: float
    needs: tuple[Callable[[], str | None], ...]

    def missing(self) -> str | None:
        """Why it cannot run, or None."""
        return next((reason for need in self.needs if (reason := need())), None)


PARTS: Final = (
    Part(
        "cold-start",
        (("cold_start",),),
        (("cold_start", "--rounds", "2"),),
        2,
        (without_build, without_limits),
    ),
    Part(
        "function",
        (("function",), ("function_formats", "--rounds", "9")),
        (("function", "--rounds", "2"), ("function_formats", "--rounds", "2")),
        4,
        (without_build, without_limits),
    ),
    Part("engine", (("engine",),), (("engine", "--rounds", "2"),), 6, (without_engines,)),
    Part(
        "thumbs",
        (("thumbs", str(PHOTOS), "--rounds", "3"),),
        (("thumbs", str(PHOTOS), "--rounds", "2", "--copies", "1"),),
        4,
        (not_on_linux, without_engines, without_vips, without_photos),
    ),
)


@app.command()
def everything(
    parts: Annotated[
        list[str] | None,
        typer.Option("--part", help=f"Run this part: {', '.join(each.name for each in PARTS)}."),
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Run the fewest rounds.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say which parts can run.")] = False,
) -> None:
    """Run every part of the benchmark that can run here, and write docs/performance.md.

    The photos are those of the folder that the variable PHOTOS names. Parts that cannot run are
    named first, with the reason; their last results stay. It takes about fifteen minutes.

    **Examples**

    `PHOTOS=~/Pictures/holiday python -m bench.everything`

    `python -m bench.everything --check`

    `python -m bench.everything --quick --part engine --part thumbs`
    """
    check_folder()
    names = [each.name for each in PARTS]
    if unknown := next((name for name in parts or () if name not in names), None):
        raise CommandError(f"There is no part {unknown}. The parts are {', '.join(names)}.")
    chosen = [each for each in PARTS if not parts or each.name in parts]
    able = []
    table = Table("part", "about", "")
    for part in chosen:
        reason = part.missing()
        if reason is None:
            able.append(part)
        verdict = "runs" if reason is None else f"[yellow]skipped[/]: {escape(reason)}"
        table.add_row(part.name, f"{part.minutes:g} min", verdict)
    out.print(table)
    count = len(jpegs())
    out.print(f"Photos: {count} in {PHOTOS}" if count else "Photos: none, so they are drawn")
    if (busy := load()) > BUSY:
        err.print(f"[yellow]The load is {busy}: other work makes wall times wrong.[/]")
    if check:
        return
    if not able:
        raise CommandError("No part can run here: see above.")
    began = time.monotonic()
    for number, part in enumerate(able, start=1):
        out.rule(
            f"{number} of {len(able)}: {part.name}, about {part.minutes:g} minutes", align="left"
        )
        for module, *options in part.quick if quick else part.modules:
            _run(module, *options)
    _run("page")
    out.print(f"It took {(time.monotonic() - began) / 60:.0f} minutes.")


def _run(module: str, *options: str) -> None:
    ran = subprocess.run(  # noqa: S603 - our own modules
        [sys.executable, "-m", f"bench.{module}", *options], check=False
    )
    if ran.returncode:
        raise CommandError(f"bench.{module} failed: see above. Results before it are kept.")


if __name__ == "__main__":
    run_app(app)
