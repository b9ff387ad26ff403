"""What browsers get of thumbnails from the CDN of a stack: as a table, and as a page of files."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from image_pipeline.cli.output import foreign, out, tracked
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError
from image_pipeline.local import site
from image_pipeline.stack import cdn
from image_pipeline.stack.aws import CONNECTIONS
from image_pipeline.stack.cdn import Served
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.thumbnails import format_name
from image_pipeline.stack.uploads import Outcome

INTRODUCTION: Final = (
    "The thumbnails beside this page. The browser chooses size and format, as it does where they "
    "come from the CDN."
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An upload and what the CDN serves of it: nothing, if it has no thumbnails.

    `served` has, for each size, what each kind of client got at the one URL of that size. `html` is
    the manifest's, with URLs relative to the output bucket's root.
    """

    outcome: Outcome
    served: dict[str, dict[str, Served]]
    html: str = ""

    @property
    def complete(self) -> bool:
        """Whether every client got a picture."""
        return all(
            answer.status == HTTPStatus.OK and answer.format
            for answers in self.served.values()
            for answer in answers.values()
        )


def deliveries(stack: Stack, outcomes: Sequence[Outcome]) -> list[Delivery]:
    """Request every thumbnail by its URL, once for each kind of client, behind a progress bar.

    Raises CommandError if the CDN does not answer.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = pool.map(partial(_delivery, stack), outcomes)
        return list(tracked(found, "Fetching", len(outcomes)))


def _delivery(stack: Stack, outcome: Outcome) -> Delivery:
    if not outcome.thumbnails:
        return Delivery(outcome, {})
    sizes = dict.fromkeys(each.spec.size for each in outcome.thumbnails)
    served = {
        cdn.negotiated_key(stack, outcome.key, size): cdn.for_each_client(
            cdn.negotiated_url(stack, outcome, size)
        )
        for size in sizes
    }
    html = cdn.manifest(stack, outcome)["html"].replace(f"{stack.thumbnails_url}/", "")
    return Delivery(outcome, served, html)


def show_deliveries(found: Sequence[Delivery]) -> None:
    """Print a section for each image: the original, then the format and bytes each browser got."""
    table = Table("image", "bytes", *cdn.CLIENTS)
    for column in table.columns[1:]:
        column.justify = "right"
    for each in found:
        table.add_row(f"[bold]{foreign(each.outcome.path.name)}[/]", f"{each.outcome.size:,}")
        for row in _rows(each):
            table.add_row(*row)
        table.add_section()
    out.print(table)


def _rows(delivery: Delivery) -> Iterator[tuple[str, ...]]:
    for key, answers in delivery.served.items():
        yield f"  [green]✓[/] {foreign(key)}", "", *map(_cell, answers.values())
    if not delivery.served:
        failure = delivery.outcome.failure
        reason = failure.error_type if failure else delivery.outcome.state
        yield (f"  [red]✗[/] {foreign(reason)}",)


def _cell(served: Served) -> str:
    if not served.format:
        return f"[red]{served.status}[/]"
    return f"{foreign(format_name(served.format))} {served.bytes:,}"


def check_folder(folder: Path) -> None:
    """Raise CommandError if a page cannot be written into `folder` because another is there."""
    path = folder / site.PAGE
    if path.exists() and not site.is_page(path):
        raise CommandError(f"{path} is not a page of this command. Choose another folder: --out.")


def write_page(found: Sequence[Delivery], folder: Path) -> Path:
    """Write a page that shows the thumbnails in `folder`; return its path."""
    path = folder / site.PAGE
    figures = [
        site.Figure(each.outcome.path.name, html=each.html, note=_note(each))
        for each in found
        if each.html
    ]
    path.write_text(site.page(figures, INTRODUCTION), encoding="utf-8")
    return path


def _note(delivery: Delivery) -> str:
    """What the clients got of the largest thumbnail, in words."""
    answers = [*delivery.served.values()][-1]
    return ", ".join(
        f"{name}: {format_name(each.format)} {each.bytes:,} B" for name, each in answers.items()
    )
