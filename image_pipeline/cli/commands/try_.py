"""`image-pipeline try`."""

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from image_pipeline.cli import contact_sheet, targets
from image_pipeline.cli.browser import open_file
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, parsed
from image_pipeline.cli.output import err, foreign, out, print_json, progress_bar, tracked
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.cli.tables import Table
from image_pipeline.cli.trial import Source, Trial
from image_pipeline.errors import CommandError
from image_pipeline.folders import originals as local_originals
from image_pipeline.folders.comparison import Comparison, Original, Task, Unreadable, compare, died
from image_pipeline.folders.score import import_scorer
from image_pipeline.folders.workers import in_processes
from image_pipeline.stack import costs, originals
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.originals import Listing, Sampler
from image_pipeline.stack.thumbnails import format_name
from thumbnailer.errors import PipelineError
from thumbnailer.imaging import parse_colour, parse_sizes
from thumbnailer.settings import Settings, check_keys, parse_formats

if TYPE_CHECKING:
    from image_pipeline.files import File

DEFAULTS: Final = Settings(output_bucket="", dead_letter_queue_url="")
DEFAULT_ARCHITECTURE: Final = "arm64"
DEFAULT_TIMEOUT: Final = 30
"""Defaults of the template's parameters too (tests/test_try.py)."""

MAX_SHOWN: Final = 10
"""Originals that could not be processed that are shown; the page and the JSON have all of them."""

NO_SCORE: Final = (
    "There are no scores (SSIMULACRA 2): the package ssimulacra2 is not installed beside this "
    "command. To have them: pip install ssimulacra2"
)


def try_(  # noqa: PLR0913 - options of a command
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Files or folders, instead of the originals of a stack.",
            show_default=False,
        ),
    ] = None,
    *,
    directory: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the contact sheet.")
    ],
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Proposed sizes: [NAME=]W or [NAME=]WxH[:FIT[:FOCUS]], separated by commas, as "
            "in `image-pipeline thumbs`.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(metavar="FORMATS", help="Proposed formats: one or more of webp, avif, jpeg."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Proposed WebP quality.")
    ] = None,
    avif_quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Proposed AVIF quality.")
    ] = None,
    jpeg_quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Proposed JPEG quality.")
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="#RRGGBB",
            help="Proposed colour of the padding, and behind transparent pictures in JPEG.",
        ),
    ] = None,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Number of originals.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Chooses the originals: the same seed, the same ones.")
    ] = 0,
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only originals under this prefix.")
    ] = None,
    views: Annotated[
        int, typer.Option(metavar="N", min=0, help="Thumbnails that are viewed in a month.")
    ] = 100_000,
    images: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Number of originals to estimate for, if not those found."
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="MS", min=1, help="Billed milliseconds per image today, if you know them."
        ),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Score the thumbnails, if that is possible.")
    ] = True,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the contact sheet in your browser.")
    ] = True,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Compare other sizes, formats and qualities with the current ones, on your own images.

    The command makes thumbnails of a sample of a stack's originals on this machine: by the stack's
    settings, and by the proposed ones. It writes one page, DIR/contact-sheet.html, that shows them
    side by side, with bytes, score and CPU time. The page says what the proposed settings mean for
    the whole bucket: dollars and hours of a backfill, storage and transfer a month, and after how
    many views a format pays for itself. Nothing in the stack is changed, and nothing is written to
    its buckets.

    With files or folders, the current settings are the defaults of the template. What is not
    proposed stays as it is. The sample is spread over the whole listing.

    The score is SSIMULACRA 2. It needs the package ssimulacra2 beside this command. Originals that
    cannot be processed are named and left out. The exit code is 1 if that is true of all of them.

    **Examples**

    `image-pipeline try --stack my-pipeline --formats webp,avif --out trial`

    `image-pipeline try --stack my-pipeline --quality 75 --sample 100 --views 2000000 --out trial`

    `image-pipeline try --sizes 256,1024,avatar=256x256:cover:attention --out trial`

    `image-pipeline try holiday/ --formats avif --avif-quality 60 --images 500000 --out trial`
    """
    given: dict[str, Any] = {
        "sizes": None if sizes is None else parsed("--sizes", parse_sizes, sizes),
        "formats": None if formats is None else parsed("--formats", parse_formats, formats),
        "quality": quality,
        "avif_quality": avif_quality,
        "jpeg_quality": jpeg_quality,
        "background": (
            None if background is None else parsed("--background", parse_colour, background)
        ),
    }
    proposal = {name: value for name, value in given.items() if value is not None}
    if not proposal:
        raise typer.BadParameter(
            "propose at least one setting, such as --formats webp,avif",
            param_hint=", ".join(f"--{name.replace('_', '-')}" for name in given),
        )
    if paths and (local or stack or region or profile or prefix is not None):
        raise CommandError(
            "Files and folders exclude --local, --stack, --region, --profile and --prefix: pass "
            "one or the other."
        )
    target = (
        None
        if paths
        else targets.find_stack(local=local, name=stack, region=region, profile=profile)
    )
    current = target.settings if target else DEFAULTS
    proposed = current._replace(**proposal)
    if proposed.specs == current.specs:
        raise CommandError(
            "The proposed settings make the same thumbnails as the current ones: propose another "
            "size, format or quality. A quality matters only if its format is made (--formats)."
        )
    task = partial(
        Task,
        current=current.specs,
        proposed=proposed.specs,
        memory_mb=current.memory_mb,
        seconds=float(target.timeout if target else DEFAULT_TIMEOUT),
        scored=score,
    )
    refuse_file(directory)  # before the work, not after it
    with stopped_by_signals():
        if target:
            source, chosen = from_stack(target, prefix, sample, seed)
        else:
            source, chosen = from_files(paths or [], sample, seed)
        if images:
            source = source._replace(images=images)
        try:
            results = compared((task(each) for each in chosen), min(sample, source.found))
        except KeyboardInterrupt:
            err.print("\nStopped. Nothing was written.")
            raise typer.Exit(130) from None
        comparisons = [each for each in results if isinstance(each, Comparison)]
        unreadable = [each for each in results if isinstance(each, Unreadable)]
        if not comparisons:
            show_unreadable(unreadable)
            raise CommandError(
                f"None of the {len(unreadable):,} originals of the sample could be processed. "
                "Choose others with --seed or --prefix."
            )
        trial = Trial(
            source,
            seed,
            (current, proposed),
            comparisons,
            unreadable,
            costs.Rates.of(target) if target else default_rates(),
            views,
            score and import_scorer() is not None,
            duration,
            notes=key_notes(proposed),
        )
        page = contact_sheet.write(trial, directory)
    if as_json:
        print_json({"page": str(page), **trial.to_json()})
    else:
        show(trial, page, wants_score=score)
    if browser:
        open_file(page)


def from_stack(
    stack: Stack, prefix: str | None, number: int, seed: int
) -> tuple[Source, Iterator[Original | Unreadable]]:
    """List a stack's originals behind a progress bar, and return the sample, to be read one by one.

    Raises CommandError if there are none.
    """
    within = targets.input_prefix(stack, prefix)
    where = f"s3://{stack.input_bucket}/{within}"
    listing = Listing()
    with progress_bar() as bar:
        task = bar.add_task("Listing", total=None)
        for listing in originals.survey(stack, within, number, seed):
            bar.update(task, completed=listing.images)
    if not listing.images:
        archived = f" but {listing.archived:,} archived objects" * bool(listing.archived)
        raise CommandError(
            f"There are no images{archived} under {where}. Upload some, name another --prefix, or "
            "name a local folder."
        )

    def read() -> Iterator[Original | Unreadable]:
        for listed in listing.sample:
            try:
                body = originals.read(stack, listed)
            except PipelineError as error:
                yield Unreadable.because(listed["Key"], error)
            else:
                yield Original(listed["Key"], body.data, body.focus)

    found = listing.images
    return Source(where, stack.name, found, found, listing.archived, stack.timeout), read()


def from_files(
    paths: list[Path], number: int, seed: int
) -> tuple[Source, Iterator[Original | Unreadable]]:
    """Find the images in files and folders, and return the sample, to be read one by one.

    Raises CommandError if there are none.
    """
    found = local_originals.find(paths)
    where = ", ".join(map(str, paths))
    if not found:
        raise CommandError(f"There are no images in {where}. Name a folder with images.")
    sampler: Sampler[File] = Sampler(number, seed)
    for each in found:
        sampler.add(each)
    chosen = (local_originals.read(each, DEFAULTS.memory_mb) for each in sampler.chosen())
    return Source(where, None, len(found), len(found), 0, DEFAULT_TIMEOUT), chosen


def compared(tasks: Iterator[Task], total: int) -> list[Comparison | Unreadable]:
    """Compare all originals on every core, behind a progress bar; return them by name."""
    workers = min(os.process_cpu_count() or 1, total)
    with closing(in_processes(compare, tasks, workers, died)) as results:
        found = list(tracked(results, "Comparing", total))
    return sorted(found, key=lambda each: each.name)


def default_rates() -> costs.Rates:
    """The rates of a stack with the template's defaults."""
    memory_mb = DEFAULTS.memory_mb
    return costs.Rates(memory_mb, DEFAULT_ARCHITECTURE, len(DEFAULTS.specs), 0.0)


def refuse_file(directory: Path) -> None:
    """Raise CommandError where a file has the place of the page's folder."""
    if directory.exists() and not directory.is_dir():
        raise CommandError(f"{directory} is a file. Name a folder for the page with --out.")


def key_notes(proposed: Settings) -> tuple[str, ...]:
    """Say why the keys of thumbnails do not allow the proposed settings, if they do not."""
    template = proposed.output_key_template
    try:
        check_keys(template, proposed.sizes, proposed.formats)
    except ValueError as error:
        return (f"To deploy the proposed settings, change OutputKeyTemplate too: it {error}.",)
    return ()


def show_unreadable(unreadable: list[Unreadable]) -> None:
    """Name the originals that could not be processed."""
    for each in unreadable[:MAX_SHOWN]:
        err.print(
            f"[yellow]![/] {foreign(each.name)}: [red]{foreign(each.error_type)}[/]: "
            f"{foreign(each.error_message)}",
            soft_wrap=True,
        )
    if len(unreadable) > MAX_SHOWN:
        err.print(f"… and {len(unreadable) - MAX_SHOWN:,} more")


def show(trial: Trial, page: Path, *, wants_score: bool) -> None:
    """Print the sums, what was left out, and where the page is."""
    show_unreadable(list(trial.unreadable))
    title = f"{trial.sampled:,} of {trial.source.found:,} images, seed {trial.seed}"
    table = Table("", "now", "proposed", "change", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in trial.rows:
        cells = [
            "not made" if side is None else f"{side[0]:,.0f} bytes{scored(side[1])}"
            for side in (row.current, row.proposed)
        ]
        ratio = ""
        if row.current and row.proposed:
            ratio = contact_sheet.change(row.proposed[0], row.current[0])
        table.add_row(f"{foreign(row.size)} {row.format}", *cells, ratio)
    table.add_section()
    (now, then), (was, will) = trial.means, trial.monthly
    for name, unit, values in (
        ("CPU time here", "{:,.0f} ms", (now.cpu_ms, then.cpu_ms)),
        ("billed time", "{:,.0f} ms", (was.duration_ms, will.duration_ms)),
        ("storage a month", "${:,.4f}", (was.storage_dollars, will.storage_dollars)),
        (
            f"transfer of {trial.views:,} views",
            "${:,.4f}",
            (was.transfer_dollars, will.transfer_dollars),
        ),
    ):
        table.add_row(name, *map(unit.format, values), contact_sheet.change(*values[::-1]))
    out.print(table)
    backfill = trial.backfill
    out.print(
        f"Backfill of {backfill.images:,} images: about ${backfill.dollars:,.4f}, "
        f"{contact_sheet.hours(backfill.hours)}."
    )
    for each in trial.paybacks:
        name = format_name(each.format)
        out.print(
            f"{name} saves no transfer beside {format_name(each.instead_of)}."
            if each.views is None
            else f"{name} pays for itself "
            + (f"after about {each.views:,} views of an image." if each.views else "at once.")
        )
    for note in trial.all_notes:
        out.print(f"[yellow]![/] {foreign(note)}", soft_wrap=True)
    if wants_score and not trial.scored:
        err.print(NO_SCORE, soft_wrap=True)
    out.print(f"Contact sheet: {foreign(str(page))}", soft_wrap=True)


def scored(score: float | None) -> str:
    """A score as the end of a cell, if there is one."""
    return "" if score is None else f"\nscore {score:.1f}"
