"""`image-pipeline cost`."""

import math
from dataclasses import asdict
from typing import Annotated, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName
from image_pipeline.cli.output import out, print_json
from image_pipeline.cli.tables import Table
from image_pipeline.stack import costs, scale
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.scale import Scale

OPERATIONS: Final = ("replay", "backfill_current", "backfill_missing", "invalidation")
"""Names of what does not happen every month, in the JSON."""

VIEWS: Final = 100_000
"""Default number of views a month, as that of `image-pipeline try`. An assumption."""


def cost(  # noqa: PLR0913 - options of a command
    *,
    images: Annotated[int, typer.Option(min=1, help="Number of images per month.")] = 10_000,
    views: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help=f"Thumbnails that are viewed in a month.  [default: {VIEWS}, with Cdn=true]",
        ),
    ] = None,
    backfill: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Estimate only a backfill of N objects: cost, time and limits.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="With --backfill: batches at a time.  [default: the stack's BackfillConcurrency]",
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="MS", min=1, help="Billed milliseconds per image, if you know them."),
    ] = None,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Estimate the cost of processing images with a stack's memory, sizes and formats.

    The settings that matter are read from the stack: sizes, formats and the manifest, EventBridge,
    X-Ray, the KMS key, provisioned concurrency and the CDN. Free tiers and the storage of the
    images themselves are not included. The output names the date and the region of the prices.
    It assumes that one in a hundred images starts an environment, whose init Lambda bills.

    With `Cdn=true` the output has the requests, the function's runs and the transfer of views, and
    with `CdnInvalidate=true` what it costs to replace all images. With --views it has those of a
    stack without a CDN too, as if there was one.

    The default duration, and the bytes of the thumbnails, are those of a photo of about 1 MB at the
    default qualities. Where there are several formats, the output says how many views pay for one:
    how often an image has to be viewed until its smaller thumbnails have saved as much transfer
    (CloudFront) as they cost.

    With --backfill the output has only a backfill of that many objects: dollars by service and
    hours, if all of them are up to date and if all thumbnails are missing, and each limit of AWS
    and of the stack beside what the backfill needs.

    **Examples**

    `image-pipeline cost --images 1000000`

    `image-pipeline cost --backfill 10000000 --concurrency 100`

    `image-pipeline cost --images 1000000 --views 50000000`

    `image-pipeline cost --stack my-pipeline --duration 240 --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    if backfill:
        show_backfill(target, Scale.of(target, backfill, concurrency, duration), as_json=as_json)
        return
    rates = costs.Rates.of(target, duration)
    starts = costs.COLD_STARTS * images
    each = costs.of_images(rates, images) | {
        "Lambda, cold starts": costs.of_cold_starts(rates, starts)
    }
    monthly = costs.of_cloudwatch(images)
    kept = costs.of_stack(rates)
    sizes = costs.bytes_by_format(target.settings)
    stored = {name: costs.of_storage(images * size) for name, size in sizes.items()}
    repaid = costs.break_evens(target)
    failed = math.ceil(images * costs.FAILED_SHARE)
    operations = {
        f"Replay of {failed:,} messages": costs.of_replay(rates, failed),
        f"Backfill of {images:,} images that are up to date": costs.of_backfill(rates, images, 0),
        f"Backfill of {images:,} images that are missing": costs.of_backfill(rates, images, images),
    }
    if target.settings.distribution:
        operations[f"Invalidations, if {images:,} images are replaced or deleted"] = (
            costs.of_invalidations(rates, images)
        )
    served = bool(target.thumbnails_url)
    if served and views is None:
        views = VIEWS
    cdn = {} if views is None else costs.of_views(target, views)
    prices = {name: costs.PRICES[name] for name in ("as_of", "region", "currency")}
    if as_json:
        print_json(
            {"stack": target.name, "images": images, **asdict(rates), "prices": prices}
            | {"images_cost": each, "total": sum(each.values()), "cloudwatch_month": monthly}
            | {
                "stack_month": kept,
                "thumbnail_bytes": {name: round(size) for name, size in sizes.items()},
                "storage_month": stored,
                "break_even_views": {name: paid._asdict() for name, paid in repaid.items()},
                "views": views,
                "cdn_month": cdn,
                "operations": dict(zip(OPERATIONS, operations.values(), strict=False)),
            }
        )
        return
    table = Table("", "dollars", title=f"{images:,} images with {target.name}")
    table.columns[1].justify = "right"
    sections = {
        "images": each,
        "CloudWatch, a month": monthly,
        "storage of the thumbnails, a month": stored,
        "the stack, a month": kept,
        f"{views or 0:,} views with {'the' if served else 'a'} CDN, a month": cdn,
    }
    for title, rows in sections.items():
        used = {name: dollars for name, dollars in rows.items() if dollars}
        if not used:
            continue
        for name, dollars in used.items():
            table.add_row(name, f"{dollars:.4f}")
        table.add_section()
        table.add_row(f"[bold]{title}[/]", f"[bold]{sum(rows.values()):.4f}[/]")
        table.add_section()
    for name, dollars in operations.items():
        table.add_row(name, f"{dollars:.4f}")
    out.print(table)
    out.print(
        f"{rates.memory_mb} MB on {rates.architecture}, {rates.duration_ms:.0f} ms and "
        f"{rates.writes} writes per image (sizes × formats: {len(target.settings.sizes)} × "
        f"{len(target.settings.formats)}{', and the manifest' * target.settings.write_manifest}); "
        f"{starts:,.0f} cold starts, with an init of {costs.init_ms(rates.memory_mb):.0f} ms each; "
        f"prices of {prices['as_of']} in {prices['region']}."
    )
    if cdn or target.settings.distribution:
        out.print(f"Free in each month, and not subtracted: {costs.CDN_FREE} (CloudFront).")
    show_break_evens(repaid)


def show_break_evens(repaid: dict[str, costs.BreakEven]) -> None:
    """Print after how many views each format has paid for itself."""
    for name, paid in repaid.items():
        out.print(
            f"{name} beside {paid.instead_of}: {paid.views:.0f} views of an image pay for making "
            f"its thumbnails and storing them for {costs.STORED_MONTHS} months."
        )


def show_backfill(stack: Stack, found: Scale, *, as_json: bool) -> None:
    """Print what a backfill costs and takes, and the limits that it exceeds."""
    ways = {"up_to_date": found.current(), "missing": found.missing()}
    limits = found.limits(stack)
    prices = {name: costs.PRICES[name] for name in ("as_of", "region", "currency")}
    speeds = sorted({found.concurrency, *scale.CONCURRENCIES})
    if as_json:
        estimates = {
            name: {
                "cost": way.dollars,
                "total": way.total,
                "hours": {str(speed): found.hours(way, speed) for speed in speeds},
            }
            for name, way in ways.items()
        }
        print_json(
            {"stack": stack.name, "objects": found.objects, "concurrency": found.concurrency}
            | {"batches": found.batches, "transitions": found.transitions, "prices": prices}
            | estimates
            | {"limits": [each._asdict() | {"exceeded": each.exceeded} for each in limits]}
        )
        return
    title = f"Backfill of {found.objects:,} objects with {stack.name}"
    table = Table("", "all up to date", "all missing", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for service in ways["missing"].dollars:
        spent = [way.dollars[service] for way in ways.values()]
        if any(spent):
            table.add_row(service, *(f"${dollars:,.2f}" for dollars in spent))
    table.add_section()
    table.add_row("[bold]total[/]", *(f"[bold]${way.total:,.2f}[/]" for way in ways.values()))
    table.add_section()
    for speed in speeds:
        table.add_row(
            f"time, {speed:,} batches at a time",
            *(readable(found.hours(way, speed)) for way in ways.values()),
        )
    out.print(table)
    shown = Table("limit", "allowed", "needed", title=f"With {found.concurrency:,} at a time")
    for column in shown.columns[1:]:
        column.justify = "right"
    for each in limits:
        colour = "[red]" if each.exceeded else ""
        shown.add_row(f"{colour}{each.name}", f"{each.allowed:,.0f}", f"{colour}{each.needed:,.0f}")
    out.print(shown)
    for each in limits:
        if each.exceeded:
            out.print(f"[yellow]Exceeded: {each.name}.[/] What to change: {each.moved_by}.")
    out.print(
        f"{found.batches:,} batches with {found.transitions:,} state transitions; prices of "
        f"{prices['as_of']} in {prices['region']}, without free tiers."
    )


def readable(hours: float) -> str:
    """Format hours in the unit in which they are easy to read."""
    if hours < 1:
        return f"{hours * 60:,.0f} min" if hours > 1 / 30 else f"{hours * 3600:,.0f} s"
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"  # noqa: PLR2004
