"""The corpus of real images, and the command that processes it."""

import csv
import json
from pathlib import Path

import pytest
from pictures import jpeg
from typer.testing import CliRunner

from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError
from tools import corpus
from tools.corpus import CASES, Outcome, app, read_cases, run, write_outcomes


@pytest.mark.skipif(not CASES.exists(), reason="the corpus of real images is not here")
def test_every_real_image_has_the_expected_outcome(tmp_path: Path) -> None:
    """The handler makes thumbnails of it or sends one permanent failure, as cases.tsv says."""
    outcomes = run(read_cases(CASES), CASES.parent / "cases", tmp_path)
    assert [each for each in outcomes if not each.right] == []
    assert len(outcomes) > 100


def table(directory: Path, *rows: tuple[str, str, bytes]) -> Path:
    """Write a table of cases and its files; each row is a name, the expected value, and bytes."""
    (directory / "cases").mkdir()
    with (directory / "cases.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("path", "class", "expected"))
        for name, expected, body in rows:
            (directory / "cases" / name).write_bytes(body)
            writer.writerow((name, "<b>made</b> up", expected))
    return directory / "cases.tsv"


def test_an_unexpected_outcome_is_reported_and_the_exit_code_is_1(tmp_path: Path) -> None:
    """The output has the name of the file and the reason, and the sheet marks it."""
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
    assert page.count("class=marked") == 1


def test_json_lists_every_outcome_and_the_exit_code_is_0_if_all_are_expected(
    tmp_path: Path,
) -> None:
    """With --json, standard output is a list with the outcome of each file."""
    cases = table(tmp_path, ("good.jpg", "thumbnail", jpeg((64, 48))))
    ran = CliRunner().invoke(app, ["--cases", str(cases), "--sheet", str(tmp_path / "s"), "--json"])
    assert ran.exit_code == 0
    [outcome] = json.loads(ran.stdout)
    assert outcome["got"] == "thumbnail"
    assert outcome["right"] is True


def test_the_sheet_escapes_names_and_messages(tmp_path: Path) -> None:
    """A file whose name is markup is shown with that name."""
    (tmp_path / "sheet").mkdir()
    name = "<img src=x onerror=alert(1)>.bin"
    hostile = Outcome(name, "<script>", "thumbnail", "raised", "<i>oh</i>")
    (tmp_path / name).write_bytes(b"x")
    write_outcomes([hostile], tmp_path, tmp_path / "sheet")
    page = (tmp_path / "sheet" / "index.html").read_text()
    assert "<script>" not in page
    assert "onerror=alert(1)>" not in page
    assert "<i>" not in page
    for text in ("&lt;img src=x onerror=alert(1)&gt;.bin", "&lt;script&gt;", "&lt;i&gt;oh"):
        assert text in page


def test_a_missing_table_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the table, and the option for another one."""
    with pytest.raises(CommandError, match="CASES="):
        read_cases(Path("nowhere.tsv"))
    monkeypatch.setattr("sys.argv", ["corpus", "--cases", "nowhere.tsv"])
    with pytest.raises(SystemExit, match="1"):
        run_app(corpus.app)
    assert "nowhere.tsv" in capsys.readouterr().err
