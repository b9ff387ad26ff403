"""The page of `image-pipeline try`: one HTML file with everything in it, and no script."""

import base64
from pathlib import Path
from typing import Final

import jinja2

from image_pipeline.cli.output import visible
from image_pipeline.cli.trial import Trial, settings_json
from image_pipeline.console.app import filesize
from image_pipeline.folders.comparison import Comparison, Picture, Thumbnails
from image_pipeline.folders.score import SCALED_SIDE
from image_pipeline.stack import costs
from image_pipeline.stack.backfill import DEFAULT_CONCURRENCY
from image_pipeline.stack.costs import STORED_MONTHS
from image_pipeline.stack.thumbnails import format_name
from image_pipeline.stack.trials import NEW_IMAGES
from thumbnailer.imaging import ENCODERS, FULL_CPU_MB

NAME: Final = "contact-sheet.html"

LABELS: Final = {
    "sizes": "Sizes",
    "formats": "Formats",
    "quality": "WebP quality",
    "avif_quality": "AVIF quality",
    "jpeg_quality": "JPEG quality",
    "background": "Background",
}
"""Names of settings on the page."""

SHOWN_WITH: Final = {"quality": "webp", "avif_quality": "avif", "jpeg_quality": "jpeg"}
"""Settings that matter only where this format is made."""


def write(trial: Trial, folder: Path) -> Path:
    """Write the page into `folder`, completely or not at all; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    part = path.with_suffix(".part")
    try:
        part.write_text(html(trial), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def html(trial: Trial) -> str:
    """Render the page. Text from outside is escaped, and its control characters are shown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "filesize": filesize,
        "dollars": dollars,
        "change": change,
        "hours": hours,
        "data_url": data_url,
        "format_name": format_name,
    }
    return environment.get_template(NAME).render(
        trial=trial,
        settings=_settings(trial),
        pairs=_pairs,
        prices=costs.PRICES,
        wait_ms=costs.WAIT_MS,
        share=min(1.0, trial.rates.memory_mb / FULL_CPU_MB),
        concurrency=DEFAULT_CONCURRENCY,
        new_images=NEW_IMAGES,
        stored_months=STORED_MONTHS,
        scored_side=SCALED_SIDE,
    )


def dollars(value: float) -> str:
    """Format dollars: cents, and four digits below ten cents."""
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"  # noqa: PLR2004


def hours(value: float) -> str:
    """Format hours in the unit in which they are easy to read."""
    seconds = value * 3600
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if value < 2 else f"{value:,.1f} h"  # noqa: PLR2004


def change(proposed: float, current: float) -> str:
    """Format a difference in per cent."""
    if not current or round(100 * proposed / current) == 100:  # noqa: PLR2004
        return "±0 %" if proposed == current or current else "new"
    return f"{100 * proposed / current - 100:+,.0f} %".replace("-", "−")


def data_url(picture: Picture) -> str:
    """Return a thumbnail as the address of an image."""
    body = base64.b64encode(picture.data).decode()
    return f"data:{ENCODERS[picture.spec.format].content_type};base64,{body}"


def _settings(trial: Trial) -> list[tuple[str, str, str]]:
    """Label and both values of each setting that matters to either."""
    made = {name for each in trial.settings for name in each.formats}
    current, proposed = map(settings_json, trial.settings)
    return [
        (label, _spaced(current[name]), _spaced(proposed[name]))
        for name, label in LABELS.items()
        if SHOWN_WITH.get(name, next(iter(made))) in made
        and (name != "background" or current[name] != proposed[name])
    ]


def _spaced(value: object) -> str:
    """A list with spaces behind its commas, so that lines can break there."""
    return str(value).replace(",", ", ")


def _pairs(comparison: Comparison) -> list[tuple[str, list[Picture], list[Picture]]]:
    """Thumbnails of an original by the name of their size, current ones and proposed ones."""

    def of(side: Thumbnails, name: str) -> list[Picture]:
        return [each for each in side.pictures if each.spec.size.name == name]

    sides = comparison.current, comparison.proposed
    names = dict.fromkeys(each.spec.size.name for side in sides for each in side.pictures)
    return [(name, of(sides[0], name), of(sides[1], name)) for name in names]
