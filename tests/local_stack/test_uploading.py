"""Which key a file gets, and where a thumbnail may be written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.files import plan
from image_pipeline.stack.uploads import Outcome, Thumbnail, download


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with pictures in it and below, and with hidden files."""
    for name in ("a.jpg", "deep/er/b.png", ".DS_Store", ".git/config"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "pictures"


def test_folders_keep_their_names(pictures: Path) -> None:
    """Keys begin with the folder's name; hidden files are left out."""
    keys = [file.key for file in plan([pictures, pictures / "a.jpg"], "uploads/")]
    assert keys == ["uploads/pictures/a.jpg", "uploads/pictures/deep/er/b.png", "uploads/a.jpg"]


def test_the_current_folder_has_a_name(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` stands for the current folder."""
    monkeypatch.chdir(pictures)
    assert next(file.key for file in plan([Path()], "")) == "pictures/a.jpg"


def test_one_key_for_two_files_is_refused(pictures: Path, tmp_path: Path) -> None:
    """The second file would overwrite the first, so neither is uploaded."""
    other = tmp_path / "a.jpg"
    other.write_bytes(b"")
    with pytest.raises(CommandError, match=r"would all become uploads/a\.jpg"):
        plan([pictures / "a.jpg", other], "uploads/")


@pytest.mark.parametrize("key", ["../outside.webp", "a/../../outside.webp"])
def test_a_thumbnail_stays_in_its_folder(tmp_path: Path, key: str) -> None:
    """A key that leads out of the folder is refused before anything is fetched."""
    stack = cast("Any", SimpleNamespace())
    outcome = Outcome(Path("a.jpg"), "uploads/a.jpg", 1, None, thumbnails=[Thumbnail(128, key, 1)])
    with pytest.raises(CommandError, match="outside of"):
        download(stack, outcome, tmp_path / "out")
