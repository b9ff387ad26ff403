"""The comparison with Chromium: its arithmetic, its page, and what it says of the thumbnails."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import encoded, quadrants
from PIL import Image
from typer.testing import CliRunner

from fuzz import seeds
from image_pipeline.errors import CommandError
from tools import look
from tools.browser import executable
from tools.look import (
    EXPLAINED,
    EXPLANATIONS,
    FILES,
    ChromiumStopped,
    Draw,
    Seen,
    chromium,
    compare,
    differences,
    is_svg,
    judge,
    pictures_of,
    rendered,
    stale,
    write_page,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "images.md"
needs_chromium = pytest.mark.skipif(executable() is None, reason="Chromium is not here")
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100">
<path fill="red" d="M20 0h120v50"/></svg>"""


@pytest.fixture(scope="module")
def draw() -> Iterator[Draw]:
    """A Chromium that draws."""
    with chromium() as draws:
        yield draws


def flat(colour: tuple[int, ...], size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGBA", size, colour)


def test_the_difference_is_ciede2000_and_alpha() -> None:
    """Black and white differ by 100; half transparent red differs in alpha, and on a background."""
    colour, alpha = differences(flat((0, 0, 0, 255)), flat((255, 255, 255, 255)))
    assert colour == pytest.approx(100, abs=0.1)
    assert alpha.max() == 0
    colour, alpha = differences(flat((255, 0, 0, 255)), flat((255, 0, 0, 128)))
    assert alpha.min() == alpha.max() == 127
    assert colour.min() > 20
    colour, alpha = differences(flat((255, 0, 0, 0)), flat((0, 0, 255, 0)))
    assert colour.max() == alpha.max() == 0  # what nobody sees does not count


@pytest.mark.parametrize(
    ("theirs", "ours", "verdict"),
    [
        (flat((100, 100, 100, 255)), flat((102, 102, 102, 255)), "same"),
        (flat((100, 100, 100, 255), (640, 480)), flat((100, 100, 100, 255)), "same"),
        (flat((100, 100, 100, 255)), flat((120, 100, 100, 255)), "differs"),
        (flat((100, 100, 100, 255)), flat((100, 100, 100, 253)), "differs"),
        (flat((100, 100, 100, 255), (48, 64)), flat((100, 100, 100, 255)), "differs"),
        (quadrants().convert("RGBA").rotate(180), quadrants().convert("RGBA"), "differs"),
    ],
    ids=["near", "larger", "colour", "alpha", "sides", "turned"],
)
def test_a_picture_that_looks_different_is_an_outlier(
    theirs: Image.Image, ours: Image.Image, verdict: str
) -> None:
    """Colour, alpha, shape and place count; the size of Chromium's picture does not."""
    seen, _ = judge("name", theirs, ours)
    assert seen.verdict == verdict
    assert seen.is_outlier == (verdict == "differs")


def test_the_thumbnail_is_compared_before_its_loss() -> None:
    """The picture has the very colours of the source, and the file is WebP."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    webp, exact, notes = rendered(encoded(noise, "PNG"))
    assert exact.convert("RGB").tobytes() == noise.tobytes()
    assert webp[8:12] == b"WEBP"
    assert notes == ""


@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
def test_an_svg_is_recognised(codec: str) -> None:
    """It is served to Chromium as one."""
    assert is_svg(SVG.decode().encode(codec))
    assert not is_svg(encoded(quadrants(), "PNG"))


def test_every_explanation_is_in_the_documents() -> None:
    """docs/images.md has the reasons and the files of EXPLANATIONS, in a table, and no others."""
    section = DOCUMENT.read_text().partition("## Compared with Chromium\n")[2].partition("\n## ")[0]
    documented = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert documented == [
        f"| {why} | {', '.join(f'`{Path(file).name}`' for file in files)} |"
        for why, files in EXPLANATIONS.items()
    ]


def test_an_explanation_of_what_is_the_same_is_stale() -> None:
    """Files that were not compared are not reported."""
    file, other = list(EXPLAINED)[:2]
    assert stale([Seen(file, "same"), Seen(other, "differs"), Seen("x", "same")]) == [file]


def test_the_page_shows_outliers_first_and_escapes_names(tmp_path: Path) -> None:
    """Those without an explanation come before the others."""
    known = next(iter(EXPLAINED))
    seen = [
        Seen("fine", "same", 0.1, 0.0),
        Seen(known, "differs", 50.0, 0.0),
        Seen("<i>new</i>", "differs", 5.0, 0.0),
    ]
    write_page(seen, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "<i>new" not in page
    places = [page.index(text) for text in ("&lt;i&gt;new", known, "fine")]
    assert places == sorted(places)


def test_a_folder_without_files_says_what_to_do(tmp_path: Path) -> None:
    """The error names CASES."""
    with pytest.raises(CommandError, match="CASES="):
        pictures_of(tmp_path)


def test_without_the_corpus_drawn_pictures_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in CI. Each has a name of its own."""
    monkeypatch.setattr(look, "FILES", tmp_path / "missing")
    pictures = pictures_of(None)
    assert len(pictures) == len(seeds.KINDS) + len(seeds.ANIMATED)
    assert all(read() for read in pictures.values())


@needs_chromium
def test_the_command_fails_for_an_outlier_without_an_explanation(tmp_path: Path) -> None:
    """Chromium does not turn a WebP by its EXIF. With an explanation the exit code is 0."""
    name = "drawn/WEBP RGB exif icc_profile"
    (tmp_path / "drawn").mkdir()
    (tmp_path / name).write_bytes(dict(seeds.drawn())[name.removeprefix("drawn/")])
    options = ["--sheet", str(tmp_path / "sheet"), "--json"]
    ran = CliRunner().invoke(look.app, [str(tmp_path / "drawn"), *options])
    assert ran.exit_code == 1
    [seen] = json.loads(ran.stdout)
    assert seen["verdict"] == "differs"
    assert "45 pixels in Chromium" in seen["message"]
    ran = CliRunner().invoke(look.app, [str(tmp_path), *options])
    outliers = [each for each in json.loads(ran.stdout) if each["verdict"] == "differs"]
    assert [each["path"] for each in outliers] == [name]
    assert ran.exit_code == 0


@needs_chromium
def test_a_file_that_keeps_chromium_busy_costs_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The browser is ended, and the next file gets a new one."""
    working = look.DRAW
    with chromium(4) as draws:
        monkeypatch.setattr(look, "DRAW", "() => { for (;;); }")
        with pytest.raises(ChromiumStopped, match="took more than 4 s"):
            draws(SVG)
        monkeypatch.setattr(look, "DRAW", working)
    with chromium() as draws:
        monkeypatch.setattr(look, "DRAW", "() => { throw new Error('x') }")
        with pytest.raises(ChromiumStopped, match="crashed"):
            draws(SVG)
        monkeypatch.setattr(look, "DRAW", working)
        assert draws(SVG) is not None


@needs_chromium
def test_an_svg_is_compared(draw: Draw, tmp_path: Path) -> None:
    """Chromium draws it large, whatever size it says."""
    assert compare(SVG, "drawing.svg", draw, tmp_path / "0").verdict == "same"


@needs_chromium
def test_drawn_pictures_of_each_format_look_as_in_chromium(draw: Draw, tmp_path: Path) -> None:
    """All of them but those that EXPLANATIONS names, whose explanations are not stale."""
    seen = [compare(data, f"drawn/{name}", draw, tmp_path / "0") for name, data in seeds.drawn()]
    assert [each for each in seen if each.is_outlier and not each.explanation] == []
    assert stale(seen) == []
    assert sum(each.verdict == "same" for each in seen) > 30


@needs_chromium
@pytest.mark.slow
def test_pictures_look_as_in_chromium(draw: Draw, tmp_path: Path) -> None:
    """No outlier is without an explanation, and no explanation without its outlier.

    The pictures are those of `make look`: the corpus, or drawn ones where it is missing.
    """
    pictures = pictures_of(None)
    seen = [compare(read(), name, draw, tmp_path / "0") for name, read in pictures.items()]
    assert [each for each in seen if each.is_outlier and not each.explanation] == []
    assert stale(seen) == []
    drawn = {f"drawn/{name}" for name, _ in seeds.drawn()}
    assert not FILES.exists() or EXPLAINED.keys() <= pictures.keys() | drawn
