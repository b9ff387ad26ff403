"""Public bug reports as small files, each with the expected outcome and picture."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from pictures import thumbnails_of
from PIL import Image, ImageSequence

from thumbnailer.errors import CorruptImage, PermanentError, UnsupportedImage

REPORTS = Path(__file__).parents[2] / "shared" / "corpus" / "reports"

COMPARED_WIDTH = 48
"""Pixels of the copies that are compared (README.md of the reports)."""

OUTCOMES: dict[str, tuple[type[PermanentError], ...]] = {
    "thumbnail": (),
    "thumbnail-or-unsupported": (UnsupportedImage,),
    "unsupported": (UnsupportedImage,),
    "reject": (CorruptImage,),
}
"""Expected outcome → errors that are right. Only the names with "thumbnail" allow a thumbnail."""


def rows() -> list[dict[str, str]]:
    """Read the table of reports; it is empty where they are not here."""
    if not REPORTS.exists():
        return []
    with (REPORTS / "reports.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def small(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Flatten a picture on magenta, and scale it down."""
    flat = Image.new("RGBA", picture.size, "magenta")
    flat.alpha_composite(picture)
    return flat.convert("RGB").resize(size)


def difference(reference: Image.Image, shown: Image.Image) -> float:
    """Return the mean CIEDE2000 of two RGBA pictures."""
    from skimage import color  # noqa: PLC0415 - takes a second

    size = (COMPARED_WIDTH, max(1, round(COMPARED_WIDTH * reference.height / reference.width)))
    labs = [color.rgb2lab(np.asarray(small(each, size))) for each in (reference, shown)]
    return float(color.deltaE_ciede2000(*labs).mean())  # type: ignore[no-untyped-call]


@pytest.mark.skipif(not REPORTS.exists(), reason="the reports are not here")
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_every_report_has_the_outcome_and_the_picture_that_it_is_owed(row: dict[str, str]) -> None:
    """The thumbnail is near the reference, within the tolerance of the table, or it is refused.

    The reference of an animation is one of its frames. Chromium leaves the last rows of a JPEG
    empty if the end marker is missing: they are in the file, and are not compared.
    """
    try:
        made = thumbnails_of((REPORTS / row["file"]).read_bytes(), (512,), memory_mb=2048)
    except PermanentError as error:
        assert isinstance(error, OUTCOMES[row["expected"]]), error  # noqa: PT017 - one of several
        return
    assert "thumbnail" in row["expected"]
    if not row["reference"]:
        return
    reference = Image.open(REPORTS / row["reference"]).convert("RGBA")
    thumbnail = Image.open(io.BytesIO(made.thumbnails[0].data))
    differences = []
    for frame in ImageSequence.Iterator(thumbnail):
        shown = frame.convert("RGBA")
        if made.format == "JPEG":
            shown = shown.resize(reference.size)
            shown.putalpha(reference.getchannel("A"))
        differences.append(difference(reference, shown))
    assert min(differences) <= float(row["tolerance"]), differences
    assert abs(thumbnail.width / thumbnail.height - reference.width / reference.height) < 0.05


@pytest.mark.skipif(not REPORTS.exists(), reason="the reports are not here")
def test_no_report_is_forgotten() -> None:
    """Every file of the folder is in the table, so that it is checked."""
    files = {path.name for path in REPORTS.iterdir() if path.is_file()}
    assert files - {"README.md", "reports.tsv"} == {row["file"] for row in rows()}
