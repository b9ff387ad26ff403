"""Upload files behind a progress bar, and show the outcome of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image_pipeline import files
from image_pipeline.cli.output import error_markup, foreign, out, tracked
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError
from image_pipeline.stack import uploads
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome, State
from thumbnailer.imaging import Size

WAIT_SECONDS: Final = 240.0
"""Default time to wait for outcomes: Lambda retries a failed event after 1 and 2 more minutes, then
puts it on the dead-letter queue.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html"""


def upload_and_wait(
    stack: Stack, paths: Sequence[Path], directory: Path | None, seconds: float, focus: str = ""
) -> list[Outcome]:
    """Upload the files in `paths`, and wait up to `seconds` for the outcome of each, in order.

    `focus` becomes their metadata, unless it is empty. Thumbnails are downloaded to `directory` if
    there is one. Raises CommandError for a wrong path, or if AWS refuses.
    """
    planned = files.plan(paths, stack.settings.input_prefix)
    total = len(planned)
    uploaded = list(tracked(uploads.upload(stack, planned, focus), "Uploading", total))
    waiting = tracked(uploads.wait(stack, uploaded, seconds), "Thumbnails", total)
    try:
        found = {each.key: each for each in waiting}
    except CommandError as error:
        raise type(error)(f"Uploaded, but the results cannot be read: {error}") from error
    outcomes = [found[each.key] for each in uploaded]
    if directory is None:
        return outcomes
    directory.mkdir(parents=True, exist_ok=True)
    downloads = (uploads.download(stack, each, directory) for each in outcomes)
    return list(tracked(downloads, "Downloading", total))


def show_outcomes(outcomes: Sequence[Outcome], options: str = "") -> None:
    """Print a section for each image: the original, then its thumbnails or why there are none.

    `options` name the stack in a command, after a space.
    """
    table = Table("image", "pixels", "bytes", "saved")
    for column in table.columns[1:]:
        column.justify = "right"
    for outcome in outcomes:
        pixels = "{} x {}".format(*outcome.pixels) if outcome.pixels else "?"
        table.add_row(f"[bold]{foreign(outcome.path.name)}[/]", pixels, f"{outcome.size:,}")
        match outcome.state:
            case State.FAILED if outcome.failure:
                table.add_row(f"  [red]✗[/] {error_markup(outcome.failure)}")
            case State.SUPERSEDED:
                owner = foreign(str(outcome.superseded_by))
                table.add_row(f"  [yellow]✗[/] {owner} is newer and has the same thumbnail names")
            case State.UNKNOWN:
                table.add_row("  [yellow]?[/] no result yet")
        for thumbnail in outcome.thumbnails:
            table.add_row(
                f"  [green]✓[/] {foreign(thumbnail.key)}",
                _shape(thumbnail.spec.size),
                f"{thumbnail.bytes:,}",
                f"{outcome.saving(thumbnail)}%",
            )
        table.add_section()
    out.print(table)
    if any(outcome.state is State.FAILED for outcome in outcomes):
        out.print(f"See all failed uploads: image-pipeline dead-letters{options}", soft_wrap=True)
    if any(outcome.state is State.UNKNOWN for outcome in outcomes):
        out.print(f"Check later: image-pipeline status{options}", soft_wrap=True)


def _shape(size: Size) -> str:
    if size.height is None:
        return f"{size.width} wide"
    return f"{size.width} x {size.height}{'' if size.fit == 'cover' else f' {size.fit}'}"
