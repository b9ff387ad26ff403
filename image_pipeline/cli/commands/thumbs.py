"""`image-pipeline thumbs`."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from image_pipeline.cli.options import Json, parsed
from image_pipeline.cli.output import (
    err,
    error_markup,
    foreign,
    out,
    print_json,
    print_json_line,
    tracked,
)
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError
from image_pipeline.folders import thumbnails
from image_pipeline.folders.thumbnails import Job, Result, State
from thumbnailer.imaging import parse_colour, parse_sizes
from thumbnailer.settings import (
    DEFAULT_SIZES,
    SIZE_KEY_TEMPLATE,
    Settings,
    check_extension,
    check_keys_differ,
    parse_formats,
    parse_key_template,
)

DEFAULTS: Final = Settings(output_bucket="", dead_letter_queue_url="")

REPORT_SECONDS: Final = 10.0
"""Seconds between two progress lines where there is no terminal for a progress bar."""

MAX_SHOWN: Final = 20
"""Failures that are shown; all of them are in failed.jsonl."""

WATCH_MS: Final = 500
"""Milliseconds that watchfiles waits for a change before it returns none."""


def thumbs(  # noqa: PLR0913 - options of a command
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")],
    *,
    directory: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the thumbnails.")
    ],
    sizes: Annotated[
        str,
        typer.Option(
            metavar="SIZES",
            help="Sizes in pixels, separated by commas: [NAME=]W or [NAME=]WxH[:FIT[:FOCUS]]. FIT "
            "is cover (crop, the default), contain or pad. FOCUS is center (the default) or "
            "attention.",
        ),
    ] = DEFAULT_SIZES,
    formats: Annotated[
        str, typer.Option(metavar="FORMATS", help="One or more of webp, avif and jpeg.")
    ] = ",".join(DEFAULTS.formats),
    quality: Annotated[int, typer.Option(min=1, max=100, help="WebP quality.")] = DEFAULTS.quality,
    avif_quality: Annotated[
        int, typer.Option(min=1, max=100, help="AVIF quality.")
    ] = DEFAULTS.avif_quality,
    jpeg_quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality.")
    ] = DEFAULTS.jpeg_quality,
    background: Annotated[
        str,
        typer.Option(
            metavar="#RRGGBB",
            help="Colour of the padding, and behind transparent pictures in JPEG.",
        ),
    ] = DEFAULTS.background,
    key_template: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            help="Names of the thumbnails: {dir}, {stem}, {ext}, {size}, {width}, {format}.",
        ),
    ] = SIZE_KEY_TEMPLATE,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of processes. The default is one per core."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Process files as they arrive or change, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make thumbnails of local files, without AWS.

    The command uses the same image code as the function. It reads folders recursively and keeps
    their structure: `trip/a/photo.jpg` becomes `DIR/trip/a/photo_128w.webp`. It skips thumbnails
    that are up to date, and files in folders that are not images. It never deletes a file or leaves
    one half-written. After Ctrl-C, run it again to continue.

    A size is a width, such as 512, or a shape: 256x256 crops to exactly that shape, 600x400:contain
    fits inside, and 600x400:pad fits inside and fills the rest with --background. With
    256x256:cover:attention, the crop keeps what attracts attention. Pictures are never enlarged.

    Failures are listed and saved in DIR/failed.jsonl, and the exit code is then 1. With --watch,
    --json prints one object per line, as each file is done.

    **Examples**

    `image-pipeline thumbs holiday/ --out thumbnails`

    `image-pipeline thumbs scans/*.tif --out web --sizes 320,640,1280 --quality 80`

    `image-pipeline thumbs portraits/ --out web --sizes 512,avatar=256x256:cover:attention`

    `image-pipeline thumbs holiday/ --out web --formats webp,avif,jpeg --avif-quality 60`

    `image-pipeline thumbs shop/ --out web --sizes card=600x400:pad --background "#f4f4f4"`

    `image-pipeline thumbs inbox/ --out thumbnails --watch`
    """
    settings = DEFAULTS._replace(
        sizes=parsed("--sizes", parse_sizes, sizes),
        formats=parsed("--formats", parse_formats, formats),
        quality=quality,
        avif_quality=avif_quality,
        jpeg_quality=jpeg_quality,
        background=parsed("--background", parse_colour, background),
        output_key_template=parsed("--key-template", parse_key_template, key_template),
    )

    def fits(template: str) -> None:
        check_keys_differ(template, settings.sizes, settings.formats)
        check_extension(template, settings.formats)

    parsed("--key-template", fits, settings.output_key_template)
    processes = workers or os.process_cpu_count() or 1
    if watch and (files := [path for path in paths if path.is_file()]):
        raise CommandError(f"--watch takes folders, and {files[0]} is a file: name its folder.")

    def planned() -> list[Job]:
        return thumbnails.plan(paths, directory, settings, processes, may_be_empty=watch)

    jobs = planned()  # first, so that a wrong path does not leave an empty folder behind
    with stopped_by_signals(), thumbnails.writing_to(directory):
        if watch:
            run = _watch(paths, directory, planned, processes, as_json=as_json)
        else:
            run = _once(jobs, directory, processes, as_json=as_json)
    if run.failures:
        raise typer.Exit(1)


@dataclass
class Run:
    """Results so far of `total` files; times in seconds."""

    total: int
    results: list[Result] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def failures(self) -> list[Result]:
        """Failed files, sorted by path."""
        failed = (each for each in self.results if each.state is State.FAILED)
        return sorted(failed, key=lambda each: each.path)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Files per second."""
        return len(self.results) / max(self.seconds, 1e-9)

    def counts(self) -> dict[str, int]:
        """Files by state."""
        found = Counter(each.state for each in self.results)
        return {state: found[state] for state in State}


def _once(jobs: Sequence[Job], directory: Path, workers: int, *, as_json: bool) -> Run:
    """Make the thumbnails and print a report. Raises typer.Exit(130) after Ctrl-C."""
    run = Run(len(jobs))
    try:
        for result in _reported(thumbnails.run(jobs, workers), run):
            run.results.append(result)
    except KeyboardInterrupt:
        err.print(
            f"\nStopped after {len(run.results):,} of {run.total:,}. Run it again to continue."
        )
        raise typer.Exit(130) from None
    finally:
        thumbnails.record_failures(directory, run.failures)
    if as_json:
        files = sorted(run.results, key=lambda each: each.path)
        print_json(
            {"out": str(directory), "seconds": round(run.seconds, 3), "counts": run.counts()}
            | {"files": [each.to_json() for each in files]}
        )
    else:
        _show(run, directory)
    return run


def _watch(
    paths: Sequence[Path],
    directory: Path,
    planned: Callable[[], list[Job]],
    workers: int,
    *,
    as_json: bool,
) -> Run:
    """Make the thumbnails again after every change, until Ctrl-C.

    All files are checked each time, so that a change without a notification is found as well.
    """
    from watchfiles import watch as changes_in  # noqa: PLC0415 - only --watch needs it

    run = Run(0)
    target = directory.resolve()
    first = True
    try:
        for changes in changes_in(
            *paths,
            watch_filter=lambda _, path: not Path(path).is_relative_to(target),
            yield_on_timeout=True,
            rust_timeout=WATCH_MS,
        ):
            if not (changes or first):
                continue
            before = {each.path: each for each in run.failures}
            jobs = planned()
            run = Run(len(jobs))
            for result in _reported(thumbnails.run(jobs, workers), run):
                run.results.append(result)
                if result.state is State.MADE or (
                    result.state is State.FAILED and before.get(result.path) != result
                ):
                    _print_result(result, as_json=as_json)
            thumbnails.record_failures(directory, run.failures)
            if first:
                err.print(f"{len(jobs):,} files checked. Watching for changes; stop it: Ctrl-C")
                first = False
    except KeyboardInterrupt:
        err.print("\nStopped.")
    return run


def _reported(results: Iterator[Result], run: Run) -> Iterator[Result]:
    """Pass the results on and show the progress: as a bar, or as lines of a log."""
    reported = time.monotonic()
    for result in tracked(results, "Thumbnails", run.total):
        yield result
        if not err.is_terminal and time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            left = (run.total - len(run.results)) / run.rate
            err.print(
                f"{len(run.results):,} of {run.total:,} files, {run.rate:.1f} per second, "
                f"about {left:.0f} s left"
            )


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        print_json_line(result.to_json())
    elif result.state is State.FAILED:
        out.print(f"[red]✗[/] {foreign(result.name)}: {error_markup(result)}", soft_wrap=True)
    else:
        out.print(
            f"[green]✓[/] {foreign(result.name)} {_sizes(result.size, result.size_out)}",
            soft_wrap=True,
        )


def _show(run: Run, directory: Path) -> None:
    """Print the failures, the notes and the sums."""
    failures = run.failures
    if failures:
        table = Table("failed", "why")
        for column in table.columns:
            column.overflow = "fold"
        for each in failures[:MAX_SHOWN]:
            table.add_row(foreign(each.name), error_markup(each))
        out.print(table)
    noted = [each for each in run.results if each.notes]
    for each in noted[:MAX_SHOWN]:
        notes = "; ".join(each.notes)
        out.print(f"[yellow]![/] {foreign(each.name)}: {foreign(notes)}", soft_wrap=True)
    if len(noted) > MAX_SHOWN:
        out.print(f"… and {len(noted) - MAX_SHOWN:,} more notes: --json prints them all")
    counts = [f"{count:,} {state}" for state, count in run.counts().items() if count]
    made = [each for each in run.results if each.state is State.MADE]
    sizes = _sizes(sum(each.size for each in made), sum(each.size_out for each in made))
    out.print(
        f"{', '.join(counts)} in {run.seconds:.1f} s, {run.rate:.1f} per second"
        + f"; {sizes}" * bool(made)
    )
    out.print(f"Thumbnails: {foreign(str(directory))}", soft_wrap=True)
    if failures:
        out.print(f"Failures: {foreign(str(directory / thumbnails.FAILED))}", soft_wrap=True)


def _sizes(size: int, size_out: int) -> str:
    """Bytes of originals and of thumbnails, as text."""
    return f"{size:,} → {size_out:,} bytes"
