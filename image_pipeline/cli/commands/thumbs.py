"""`image-pipeline thumbs`."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from image_pipeline.cli.options import Json, Yes, parsed
from image_pipeline.cli.output import (
    confirm,
    err,
    error_markup,
    foreign,
    out,
    print_json,
    print_json_line,
    print_json_with_list,
    progress_bar,
    tracked,
)
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError
from image_pipeline.folders import thumbnails
from image_pipeline.folders.plan import Plan, plan
from image_pipeline.folders.results import Result, Results, State
from image_pipeline.folders.writing import write_error, writing_to
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

if TYPE_CHECKING:
    from image_pipeline.folders.prune import Orphan, Orphans

DEFAULTS: Final = Settings(output_bucket="", dead_letter_queue_url="")

REPORT_SECONDS: Final = 10.0
"""Seconds between two progress lines where there is no terminal for a progress bar."""

MAX_SHOWN: Final = 20
"""Lines of each kind that are shown; --json prints all, and all failures are in failed.jsonl."""

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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made or deleted, and do nothing.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Make nothing. Delete the thumbnails whose originals are gone."
        ),
    ] = False,
    yes: Yes = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Show what image libraries print about each file."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make thumbnails of local files, without AWS.

    The command uses the same image code as the function. It reads folders recursively and keeps
    their structure: `trip/a/photo.jpg` becomes `DIR/trip/a/photo_128w.webp`. It skips thumbnails
    that are up to date, and files in folders that are not images. A picture gets all its thumbnails
    or none. After Ctrl-C, run it again to continue.

    A size is a width, such as 512, or a shape: 256x256 crops to exactly that shape, 600x400:contain
    fits inside, and 600x400:pad fits inside and fills the rest with --background. With
    256x256:cover:attention, the crop keeps what attracts attention. Pictures are never enlarged.

    --dry-run shows how many files have thumbnails to make, without decoding them. --prune shows the
    thumbnails of originals that are no longer in the given folders, and asks before it deletes
    them. It deletes only files that this pipeline made.

    Failures are listed and saved in DIR/failed.jsonl. With --watch, --json prints one object per
    line, as each file is done.

    Exit codes: 0 if every image has its thumbnails. 1 if a file failed, if the disk is full, if the
    command could not start, or if you declined. 2 if an option is wrong. 130 after Ctrl-C.

    **Examples**

    `image-pipeline thumbs holiday/ --out thumbnails`

    `image-pipeline thumbs scans/*.tif --out web --sizes 320,640,1280 --quality 80`

    `image-pipeline thumbs portraits/ --out web --sizes 512,avatar=256x256:cover:attention`

    `image-pipeline thumbs holiday/ --out web --formats webp,avif,jpeg --avif-quality 60`

    `image-pipeline thumbs shop/ --out web --sizes card=600x400:pad --background "#f4f4f4"`

    `image-pipeline thumbs inbox/ --out thumbnails --watch`

    `image-pipeline thumbs holiday/ --out web --dry-run`

    `image-pipeline thumbs holiday/ --out web --prune`
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
        check_inside(template)

    parsed("--key-template", fits, settings.output_key_template)
    if watch and (dry_run or prune):
        raise typer.BadParameter("excludes --dry-run and --prune", param_hint="--watch")
    if prune:
        from image_pipeline.folders.prune import Orphans  # noqa: PLC0415 - 12 ms, for --prune only

        _prune(
            Orphans(paths, directory, settings),
            directory,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
        )
        return
    if watch and (files := [path for path in paths if path.is_file()]):
        raise CommandError(f"--watch takes folders, and {files[0]} is a file: name its folder.")
    processes = workers or os.process_cpu_count() or 1

    def planned() -> Plan:
        memory_mb = thumbnails.memory_of_worker(processes)
        with progress_bar() as bar:
            task = bar.add_task("Finding files", total=None)
            return plan(
                paths,
                directory,
                settings,
                memory_mb,
                may_be_empty=watch,
                found=lambda: bar.advance(task),
            )

    with planned() as first:  # so that a wrong path does not leave an empty folder behind
        if dry_run:
            done = _dry_run(first, directory, as_json=as_json, verbose=verbose)
        else:
            with stopped_by_signals(), writing_to(directory):
                if watch:
                    done = _watch(paths, directory, planned, processes, as_json=as_json)
                else:
                    done = _once(first, directory, processes, as_json=as_json, verbose=verbose)
    if not done:
        raise typer.Exit(1)


def check_inside(template: str) -> None:
    """Raise ValueError where a key template leads out of the output folder, or is misleading.

    The extension of the original is misleading as that of its thumbnails.
    """
    if PurePath(template).is_absolute() or PureWindowsPath(template).anchor:
        raise ValueError(f"must be a path inside --out, without a root: {template!r}")
    if ".." in PureWindowsPath(template).parts:  # which splits at both kinds of slash
        raise ValueError(f"must be a path inside --out, without '..': {template!r}")
    if template.endswith(".{ext}"):
        raise ValueError(
            "names thumbnails like the originals' format, which they do not have: end it with "
            f".{{format}}, such as {{dir}}{{stem}}_{{ext}}_{{size}}.{{format}}, not {template!r}"
        )


@dataclass
class Run:
    """The results so far of `total` files; times in seconds."""

    total: int
    results: Results
    started: float = field(default_factory=time.monotonic)
    done: int = 0

    def add(self, result: Result) -> None:
        """Add the result of a file."""
        self.results.add(result)
        self.done += 1

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Files per second."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def left(self) -> int:
        """Files without a result: all those behind the one that found the disk full."""
        return max(self.total - self.done, 0)

    @property
    def succeeded(self) -> bool:
        """Whether every image has its thumbnails."""
        return not (self.left or self.results.totals()[State.FAILED].files)


def _once(plan: Plan, directory: Path, workers: int, *, as_json: bool, verbose: bool) -> bool:
    """Make the thumbnails and print a report; return whether every image has its thumbnails.

    Raises typer.Exit(130) after Ctrl-C.
    """
    with Results() as results:
        run = Run(plan.total, results)
        try:
            for result in _reported(thumbnails.run(plan, workers), run):
                run.add(result)
        except KeyboardInterrupt:
            err.print(f"\nStopped after {run.done:,} of {run.total:,}. Run it again to continue.")
            raise typer.Exit(130) from None
        finally:
            _record_failures(directory, run)
        _report(run, directory, as_json=as_json, verbose=verbose)
        return run.succeeded


def _dry_run(plan: Plan, directory: Path, *, as_json: bool, verbose: bool) -> bool:
    """Print what `_once` would make, as far as that shows before the files are decoded."""
    with Results() as results:
        run = Run(plan.total, results)
        for result in _reported(thumbnails.would_make(plan), run):
            run.add(result)
        _report(run, directory, as_json=as_json, verbose=verbose, dry_run=True)
        return run.succeeded


def _watch(
    paths: Sequence[Path],
    directory: Path,
    planned: Callable[[], Plan],
    workers: int,
    *,
    as_json: bool,
) -> bool:
    """Make the thumbnails again after every change, until Ctrl-C.

    All files are checked each time, so that a change without a notification is found as well.
    Returns whether every image has its thumbnails at the end.
    """
    from watchfiles import watch as changes_in  # noqa: PLC0415 - only --watch needs it

    failed: dict[str, dict[str, Any]] = {}
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
            with planned() as plan, Results() as results:
                run = Run(plan.total, results)
                for result in _reported(thumbnails.run(plan, workers), run):
                    run.add(result)
                    fields = result.to_json()
                    if result.state is State.MADE or (
                        result.state is State.FAILED and failed.get(result.name) != fields
                    ):
                        _print_result(result, as_json=as_json)
                failed = {each["path"]: each for each in results.failures()}
                _record_failures(directory, run)
            if first:
                err.print(f"{run.total:,} files checked. Watching for changes; stop it: Ctrl-C")
                first = False
    except KeyboardInterrupt:
        err.print("\nStopped.")
    return not failed


def _record_failures(directory: Path, run: Run) -> None:
    """Write failed.jsonl; where that is not possible, say so and go on."""
    try:
        thumbnails.record_failures(directory, run.results.failures())
    except OSError as error:
        err.print(f"[yellow]No list of failures:[/] {foreign(write_error(error))}", soft_wrap=True)


def _reported(results: Iterator[Result], run: Run) -> Iterator[Result]:
    """Pass the results on and show the progress: as a bar, or as lines of a log."""
    reported = time.monotonic()
    for result in tracked(results, "Thumbnails", run.total):
        yield result
        if not err.is_terminal and time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            err.print(
                f"{run.done:,} of {run.total:,} files, {run.rate:.1f} per second, "
                f"about {run.left / run.rate:.0f} s left"
            )


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        print_json_line(result.to_json())
    elif result.state is State.FAILED:
        out.print(f"[red]failed[/] {foreign(result.name)}: {error_markup(result)}", soft_wrap=True)
    else:
        out.print(
            f"[green]made[/] {foreign(result.name)}: {_sizes(result.size, result.size_out)}",
            soft_wrap=True,
        )


def _report(
    run: Run, directory: Path, *, as_json: bool, verbose: bool, dry_run: bool = False
) -> None:
    """Print the results: as JSON, or what failed, what is worth a note, and the sums."""
    totals = run.results.totals()
    if as_json:
        summary = {
            "out": str(directory),
            "dry_run": dry_run,
            "seconds": round(run.seconds, 3),
            "counts": {state: each.files for state, each in totals.items()},
            "totals": {state: asdict(each) for state, each in totals.items()},
            "left": run.left,
        }
        print_json_with_list(summary, "files", run.results.every())
        return
    _show_failures(run)
    _show_lines(run, verbose=verbose)
    made = totals[State.MADE]
    counts = [
        f"{each.files:,} {'to make' if dry_run and state is State.MADE else state}"
        for state, each in totals.items()
        if each.files
    ]
    if dry_run:
        out.print(f"{', '.join(counts)}. {made.thumbnails:,} thumbnails would be written.")
        out.print(f"Nothing was written to {foreign(str(directory))}.", soft_wrap=True)
        return
    sizes = _sizes(made.bytes, made.thumbnail_bytes)
    out.print(
        f"{', '.join(counts)} in {run.seconds:.1f} s, {run.rate:.1f} per second"
        + f"; {sizes}" * bool(made.files)
    )
    if run.left:
        out.print(
            f"[red]Stopped because the disk is full:[/] {run.left:,} files are left. Free some "
            "space, then run the command again to continue.",
            soft_wrap=True,
        )
    out.print(f"Thumbnails: {foreign(str(directory))}", soft_wrap=True)
    if totals[State.FAILED].files:
        out.print(f"Failures: {foreign(str(directory / thumbnails.FAILED))}", soft_wrap=True)


def _show_failures(run: Run) -> None:
    table = Table("failed", "why")
    for each in islice(run.results.failures(), MAX_SHOWN):
        why = each["error"]
        table.add_row(
            foreign(each["path"]), f"[red]{foreign(why['type'])}[/]: {foreign(why['message'])}"
        )
    if table.row_count:
        out.print(table)


def _show_lines(run: Run, *, verbose: bool) -> None:
    """Print the notes, and with `verbose` what libraries printed."""
    _, noted, noisy = run.results.count()
    for each in islice(run.results.noted(), MAX_SHOWN):
        notes = "; ".join(each["notes"])
        out.print(f"[yellow]![/] {foreign(each['path'])}: {foreign(notes)}", soft_wrap=True)
    if noted > MAX_SHOWN:
        out.print(f"{noted - MAX_SHOWN:,} more notes: --json prints them all")
    if verbose:
        for each in run.results.noisy():
            for line in each["stderr"]:
                out.print(f"{foreign(each['path'])}: {foreign(line)}", soft_wrap=True)
    elif noisy:
        out.print(f"Image libraries printed messages about {noisy:,} files: --verbose shows them")


def _prune(orphans: "Orphans", directory: Path, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show the thumbnails whose originals are gone, ask, and delete them."""
    with progress_bar() as bar:
        found = list(bar.track(orphans.find(), total=None, description="Checking"))
    deleted: list[Orphan] = []
    if not as_json or (found and not (dry_run or yes)):
        _show_orphans(found, directory)
    if found and (empty := orphans.empty):
        names = ", ".join(map(str, empty))
        message = f"There are no files in {names}. Check that their disk is connected."
        if yes and not dry_run:
            raise CommandError(f"{message} To delete all the same, leave out --yes.")
        err.print(f"[yellow]{foreign(message)}[/]", soft_wrap=True)
    if found and not dry_run:
        if not yes:
            confirm(f"Delete {len(found):,} thumbnails?")
        with stopped_by_signals(), writing_to(directory):
            deleted += (each for each in found if orphans.delete(each))
    if as_json:
        gone = {each.path for each in deleted}
        files = [each.to_json() | {"deleted": each.path in gone} for each in found]
        print_json(
            {"out": str(directory), "dry_run": dry_run, "orphaned": len(found)}
            | {"deleted": len(deleted), "files": files}
        )
    elif deleted:
        out.print(f"{len(deleted):,} deleted, {sum(each.size for each in deleted):,} bytes.")


def _show_orphans(found: Sequence["Orphan"], directory: Path) -> None:
    for each in found[:MAX_SHOWN]:
        err.print(
            f"  {foreign(str(each.path))}: {foreign(str(each.original))}.* is gone", soft_wrap=True
        )
    if len(found) > MAX_SHOWN:
        err.print(f"  and {len(found) - MAX_SHOWN:,} more. To list them all: --dry-run --json")
    size = sum(each.size for each in found)
    err.print(
        f"{len(found):,} thumbnails in {foreign(str(directory))} have no original any more: "
        f"{size:,} bytes.",
        soft_wrap=True,
    )


def _sizes(size: int, size_out: int) -> str:
    """Bytes of originals and of thumbnails, as text."""
    return f"{size:,} bytes became {size_out:,}"
