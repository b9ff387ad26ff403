"""The corpus of real images, and the command that runs it."""

import csv
import json
from pathlib import Path

import pytest
from pictures import jpeg
from typer.testing import CliRunner

from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError
from tools import corpus
from tools.corpus import CASES, Outcome, app, read_cases, run, write_sheet


@pytest.mark.skipif(not CASES.exists(), reason="no corpus of real images here")
def test_every_real_image_gets_what_it_is_owed(tmp_path: Path) -> None:
    """Each row of cases.tsv, through the whole handler: its thumbnails, or one permanent letter."""
    outcomes = run(read_cases(CASES), CASES.parent / "cases", tmp_path)
    assert [each for each in outcomes if not each.right] == []
    assert len(outcomes) > 100


def table(directory: Path, *rows: tuple[str, str, bytes]) -> Path:
    """A table of cases with its files: name, expected, bytes."""
    (directory / "cases").mkdir()
    with (directory / "cases.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("path", "class", "expected"))
        for name, expected, body in rows:
            (directory / "cases" / name).write_bytes(body)
            writer.writerow((name, "<b>made</b> up", expected))
    return directory / "cases.tsv"


def test_a_difference_is_named_and_fails(tmp_path: Path) -> None:
    """What gets something else than expected is printed with its reason, and the exit code is 1."""
    cases = table(
        tmp_path,
        ("good.jpg", "thumbnail", jpeg((64, 48))),
        ("text.jpg", "thumbnail", b"a text"),
        ("text.png", "reject-permanent", b"a text"),
    )
    sheet = tmp_path / "sheet"
    ran = CliRunner().invoke(app, ["--cases", str(cases), "--sheet", str(sheet)])
    assert ran.exit_code == 1
    assert "2 of 3 as expected" in ran.output
    assert "text.jpg: expected thumbnail, got reject-permanent" in ran.output
    assert "UnsupportedImage" in ran.output
    page = (sheet / "index.html").read_text()
    assert (sheet / "0_512w.webp").exists()
    assert page.count("class=wrong") == 1


def test_scripts_read_json_and_0_when_all_is_right(tmp_path: Path) -> None:
    """--json prints every outcome, and the exit code tells whether all were right."""
    cases = table(tmp_path, ("good.jpg", "thumbnail", jpeg((64, 48))))
    ran = CliRunner().invoke(app, ["--cases", str(cases), "--sheet", str(tmp_path / "s"), "--json"])
    assert ran.exit_code == 0
    [outcome] = json.loads(ran.stdout)
    assert outcome["got"] == "thumbnail"
    assert outcome["right"] is True


def test_names_are_never_markup(tmp_path: Path) -> None:
    """A file called like a tag is shown as its name."""
    (tmp_path / "sheet").mkdir()
    name = "<img src=x onerror=alert(1)>.bin"
    hostile = Outcome(name, "<script>", "thumbnail", "raised", "<i>oh</i>")
    (tmp_path / name).write_bytes(b"x")
    write_sheet([hostile], tmp_path, tmp_path / "sheet")
    page = (tmp_path / "sheet" / "index.html").read_text()
    assert "<script>" not in page
    assert "onerror=alert(1)>" not in page
    assert "<i>" not in page


def test_a_missing_table_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback: the message names the table and the option."""
    with pytest.raises(CommandError, match="CASES="):
        read_cases(Path("nowhere.tsv"))
    monkeypatch.setattr("sys.argv", ["corpus", "--cases", "nowhere.tsv"])
    with pytest.raises(SystemExit, match="1"):
        run_app(corpus.app)
    assert "nowhere.tsv" in capsys.readouterr().err
