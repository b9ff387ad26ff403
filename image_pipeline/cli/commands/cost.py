"""`image-pipeline cost`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Region, StackName
from image_pipeline.cli.output import out, print_json
from image_pipeline.stack import costs


def cost(  # noqa: PLR0913 - options of a command
    *,
    images: Annotated[int, typer.Option(min=1, help="Number of images per month.")] = 10_000,
    duration: Annotated[
        float | None,
        typer.Option(metavar="MS", min=1, help="Billed milliseconds per image, if you know them."),
    ] = None,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Estimate the cost of processing images with a stack's memory, architecture and sizes.

    Free tiers, storage and transfer are not included. The output names the date and the region of
    the prices. The default duration is that of a photo of about 1 MB.

    **Examples**

    `image-pipeline cost --images 1000000`

    `image-pipeline cost --stack my-pipeline --duration 240 --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region)
    rates = costs.Rates.of(target, duration)
    each, monthly = costs.of_images(rates, images), costs.of_cloudwatch(images)
    prices = {name: costs.PRICES[name] for name in ("as_of", "region", "currency")}
    if as_json:
        print_json(
            {"stack": target.name, "images": images, **asdict(rates), "prices": prices}
            | {"images_cost": each, "total": sum(each.values()), "cloudwatch_month": monthly}
        )
        return
    table = Table("", "dollars", title=f"{images:,} images with {target.name}")
    table.columns[1].justify = "right"
    for title, rows in (("images", each), ("CloudWatch, a month", monthly)):
        for name, dollars in rows.items():
            table.add_row(name, f"{dollars:.4f}")
        table.add_section()
        table.add_row(f"[bold]{title}[/]", f"[bold]{sum(rows.values()):.4f}[/]")
        table.add_section()
    out.print(table)
    out.print(
        f"{rates.memory_mb} MB on {rates.architecture}, {rates.duration_ms:.0f} ms and "
        f"{rates.writes} writes per image; prices of {prices['as_of']} in {prices['region']}."
    )
