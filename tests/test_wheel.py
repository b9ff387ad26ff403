"""The wheel: what is in it, and that it works without a checkout."""

import email
import re
import shutil
import stat
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from installed_wheel import REPOSITORY, UV, InstalledWheel, build_wheel, install_wheel
from pictures import jpeg

from image_pipeline.build.function import build_function

NOT_INSTALLED = re.compile(r"(^|/)(tests?|bench|fuzz|soak|tools|docs|scripts)/|\.pyc$|Makefile$")

BUILD = """
import sys
from pathlib import Path
from image_pipeline.build.function import build_function
from image_pipeline.build.sources import find_sources
sources = find_sources()
build_function(sources.function, Path(sys.argv[1]), "x86_64")
print(sources.iac / "template.yaml")
"""

UNIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")

WITHOUT_UNIX = f"""
import builtins, sys
import_module = builtins.__import__

def import_portable(name, globals=None, *more, **named):
    importer = (globals or dict()).get("__name__", "").partition(".")[0]
    if importer in ("image_pipeline", "thumbnailer") and name in {UNIX_ONLY}:
        raise ImportError(f"{{globals['__name__']}} imports {{name}}")
    return import_module(name, globals, *more, **named)

builtins.__import__ = import_portable
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="image-pipeline")
sys.argv = ["image-pipeline", *sys.argv[1:]]
command.load()()
"""
"""The command, in which the project's own modules cannot import what only Unix has."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> InstalledWheel:
    """The wheel in an environment of its own, with what it depends on and nothing else."""
    return install_wheel(tmp_path_factory.mktemp("installed"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def package_files(folder: Path) -> set[str]:
    """Files of a package of the checkout, as they are named in the wheel."""
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def test_the_wheel_has_both_packages_and_the_sources_of_a_deploy(wheel: Path) -> None:
    """Every file of the packages once, and the template with what it names; no tests, no tools."""
    names = zipfile.ZipFile(wheel).namelist()
    sources = {name for name in names if name.startswith("image_pipeline/sources/")}
    packages = {name for name in names if name.startswith(("image_pipeline/", "thumbnailer/"))}
    packages -= sources | {"image_pipeline/_commit"}
    assert packages == package_files(REPOSITORY / "image_pipeline") | package_files(
        REPOSITORY / "lambda" / "thumbnailer"
    )
    iac = {
        f"image_pipeline/sources/{path.relative_to(REPOSITORY)}"
        for path in (REPOSITORY / "iac").rglob("*")
        if path.is_file()
    }
    assert {name for name in sources if "/iac/" in name} == iac
    assert {Path(name).name for name in sources - iac} == {
        "__init__.py",
        "handler.py",
        "image_utils.py",
        "pyproject.toml",
        "requirements.txt",
        *("ministack.txt", "sam.txt", "uv.txt"),
    }
    assert [name for name in names if NOT_INSTALLED.search(name)] == []


def test_the_package_index_shows_the_readme_with_links_that_work(wheel: Path) -> None:
    """A link of README.md to a file of the repository is relative there, and absolute here."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Operating System :: Microsoft :: Windows" in metadata.get_all("Classifier", [])
    shown = metadata.get_payload()
    assert isinstance(shown, str)
    written = (REPOSITORY / "README.md").read_text()
    assert shown.splitlines()[0] == written.splitlines()[0]
    targets = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert len(targets) == len(re.findall(r"\]\(([^)\s]+)\)", written)) > 20
    assert all(each.startswith(("https://", "#")) for each in targets)
    assert "![" in shown
    assert re.search(
        r"!\[[^]]*\]\(https://github.com/[^/]+/image-pipeline/raw/main/docs/img/", shown
    )


def test_the_same_source_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Byte for byte, wherever it is built."""
    assert build_wheel(REPOSITORY, tmp_path).read_bytes() == wheel.read_bytes()


def test_the_wheel_names_its_commit(wheel: Path) -> None:
    """The checked-out commit, marked where files differ from it."""
    git = shutil.which("git")
    assert git
    head = subprocess.run(  # noqa: S603 - git of this machine
        [git, "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("image_pipeline/_commit").decode() in (
            f"{head}\n",
            f"{head}-dirty\n",
        )


def test_the_wheel_can_be_built_without_git(wheel: Path, tmp_path: Path) -> None:
    """From an archive of the files, even within another repository: the wheel names no commit."""
    subprocess.run([shutil.which("git") or "", "init", "-q", tmp_path], check=True)  # noqa: S603
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("iac", "image_pipeline", "lambda", "requirements", "tools"):
        shutil.copytree(REPOSITORY / name, copy / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    names = zipfile.ZipFile(build_wheel(copy, tmp_path / "dist")).namelist()
    assert set(zipfile.ZipFile(wheel).namelist()) - set(names) == {"image_pipeline/_commit"}


def test_dependencies_are_at_least_what_is_tested() -> None:
    """The lowest version of each is the one that the tests run with, on the same machines."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pinned = dict(
        re.findall(
            r"^([a-z0-9-]+)==(.*\S) \\$",
            (REPOSITORY / "requirements" / "dev.txt").read_text(),
            re.MULTILINE,
        )
    )
    named = (each.split(">=") for each in project["dependencies"])
    dependencies = {name: version.replace(";", " ;") for name, version in named}
    assert dependencies == {name: pinned[name] for name in dependencies}
    assert list(dependencies) == sorted(dependencies)


@pytest.mark.parametrize(
    ("words", "shown"), [(["--version"], r"\d+\.\d+\.\d+"), (["--help"], "Usage: image-pipeline")]
)
def test_the_installed_command_starts(
    installed: InstalledWheel, words: list[str], shown: str
) -> None:
    """From an empty folder, with nothing of the checkout on its path."""
    assert re.search(shown, installed.run(*words).stdout)


def test_the_installed_command_makes_thumbnails(installed: InstalledWheel) -> None:
    """`thumbs` needs neither AWS nor a checkout."""
    (installed.home / "photo.jpg").write_bytes(jpeg((1200, 800)))
    installed.run("thumbs", "photo.jpg", "--out", "thumbnails")
    found = sorted(path.name for path in (installed.home / "thumbnails").iterdir())
    assert found == ["photo_128w.webp", "photo_512w.webp"]


def test_thumbs_try_and_help_import_nothing_that_only_unix_has(installed: InstalledWheel) -> None:
    """The modules that they load import no fcntl, resource and the like."""
    assert "thumbs" in installed.python(WITHOUT_UNIX, "--help").stdout
    (installed.home / "portable.jpg").write_bytes(jpeg((300, 200)))
    installed.python(WITHOUT_UNIX, "thumbs", "portable.jpg", "--out", "portable")
    assert (installed.home / "portable" / "portable_128w.webp").exists()
    words = ("portable.jpg", "--out", "portable", "--quality", "50", "--no-browser")
    installed.python(WITHOUT_UNIX, "try", *words)
    assert (installed.home / "portable" / "contact-sheet.html").exists()


@pytest.mark.parametrize("name", ["status", "console", "upload"])
def test_commands_on_a_stack_import_nothing_that_only_unix_has(
    installed: InstalledWheel, name: str
) -> None:
    """They get as far as the account, for which there are no credentials here."""
    (installed.home / "unsent.jpg").write_bytes(jpeg((30, 20)))
    files = ["unsent.jpg"] * (name == "upload")
    done = installed.python(WITHOUT_UNIX, name, *files, "--stack", "any", code=1)
    assert done.stderr.startswith("Error: ")
    assert "aws configure" in done.stderr


def test_the_function_is_built_from_an_installed_wheel(
    installed: InstalledWheel, tmp_path: Path
) -> None:
    """The same bytes as from the checkout, though site-packages cannot be written to."""
    for path in (installed.packages, *installed.packages.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = contents(installed.packages)
    template = Path(installed.python(BUILD, tmp_path / "of-wheel").stdout.strip())
    assert contents(installed.packages) == before
    build_function(REPOSITORY / "lambda", tmp_path / "of-checkout", "x86_64", str(UV))
    assert contents(tmp_path / "of-wheel") == contents(tmp_path / "of-checkout")
    assert contents(template.parent) == contents(REPOSITORY / "iac")


def test_the_sources_of_a_wheel_are_unpacked_once(installed: InstalledWheel) -> None:
    """Into the cache folder, with modes of their own; a file that is missing there is restored."""
    find = "from image_pipeline.build.sources import find_sources; print(find_sources().function)"
    function = Path(installed.python(find).stdout.strip())
    assert function.is_relative_to(installed.home)
    for path in (function, *function.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    handler = function / "handler.py"
    unpacked_at = handler.stat().st_mtime_ns
    assert Path(installed.python(find).stdout.strip()) == function
    assert handler.stat().st_mtime_ns == unpacked_at
    handler.unlink()
    assert Path(installed.python(find).stdout.strip()) == function
    assert handler.read_bytes() == (REPOSITORY / "lambda" / "handler.py").read_bytes()
    assert [path.name for path in function.parents[1].iterdir()] == [function.parent.name]
