"""tools/artefact_size.py: the size of a built function, and when it exceeds Lambda's limits."""

import io
import random
import sys
import zipfile
from pathlib import Path

import pytest

from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError
from tools import artefact_size
from tools.artefact_size import Part, check_limits, parts

MB = 2**20


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """An artefact of a library that deflates well, a larger and denser one, and a module."""
    for name, content in (
        ("build.json", b'{"architecture": "arm64"}'),
        ("text/deep/a.py", b"a" * 3_000_000),
        ("dense/b.so", random.Random(7).randbytes(200_000)),  # noqa: S311 - no secret
        ("handler.py", b"pass"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_parts_are_measured_as_lambda_gets_them(built: Path) -> None:
    """Folders include everything below them; the sum of the parts is the zip of the whole.

    The largest zip is first. Every zip ends with a record of 22 bytes, and the whole has one.
    """
    found = parts(built)
    assert [part.name for part in found] == ["dense", "text", "build.json", "handler.py"]
    assert [part.unzipped for part in found[:2]] == [200_000, 3_000_000]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in built.rglob("*.*"):
            archive.write(path, path.relative_to(built))
    assert sum(part.zipped for part in found) == buffer.tell() + 22 * (len(found) - 1)


@pytest.mark.parametrize(
    ("unzipped", "zipped", "message"),
    [(250 * MB + 1, MB, "250.00 MB unzipped"), (100 * MB, 50 * MB + 1, "50.00 MB zipped")],
)
def test_more_than_lambda_allows_is_refused(unzipped: int, zipped: int, message: str) -> None:
    """All parts together may reach either limit, and not exceed it by a byte."""
    rest = Part("b", 0, 1)
    check_limits([Part("a", unzipped - 1, zipped - 2), rest])
    with pytest.raises(CommandError, match=message) as raised:
        check_limits([Part("a", unzipped, zipped - 1), rest])
    assert "lambda/requirements.in" in str(raised.value)


def test_the_report_has_the_architecture_and_sums(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest parts have a line each, the others share one, and the total has one."""
    monkeypatch.setattr(artefact_size, "SHOWN", 2)
    artefact_size.show(built, parts(built))
    shown = capsys.readouterr().out
    assert "for arm64" in shown
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["dense", "0.19", "0.19"] in lines
    assert ["2 others", "0.00", "0.00"] in lines
    assert ["together", "3.05", "0.19"] in lines


def test_a_folder_without_a_build_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says how to build, and the exit code is 1."""
    monkeypatch.setattr(sys, "argv", ["artefact", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        run_app(artefact_size.app)
    assert left.value.code == 1
    assert "make build" in capsys.readouterr().err
