"""The build of the function: what is in the artefact, for each architecture, and what fails."""

import ast
import importlib.util
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_wheel import REPOSITORY, UV
from pictures import encoded, quadrants

from image_pipeline.build import function
from image_pipeline.build.function import BuildError, build_function
from image_pipeline.local.stack import LocalStack
from image_pipeline.local.tools import architecture, sam_environment
from thumbnailer import build_check
from thumbnailer.build_check import MACHINES, STAMP

SOURCE = REPOSITORY / "lambda"

E_MACHINE = {"x86_64": 62, "arm64": 183}
"""EM_X86_64 and EM_AARCH64 of the ELF header (https://man7.org/linux/man-pages/man5/elf.5.html)."""

RUNTIME_LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""boto3 and what it needs: the one library that Lambda's runtime has."""

ALONE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import handler, image_utils
from thumbnailer.imaging import parse_sizes
from thumbnailer.settings import Settings
specs = Settings('', '', sizes=parse_sizes('64')).specs
for path in sys.argv[3:]:
    with open(path, "rb") as file:
        [thumbnail] = image_utils.make_thumbnails(file.read(), specs, 512).thumbnails
    print(json.dumps([path.rpartition(".")[2], thumbnail.size, thumbnail.data[8:12].decode()]))
"""
"""Import the function from the first two paths, and make thumbnails of the files after them."""


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The function, built for every architecture of Lambda."""
    return {
        target: build(tmp_path_factory.mktemp(target), target)
        for target in sorted(set(MACHINES.values()))
    }


@pytest.fixture(params=sorted(set(MACHINES.values())))
def target(request: pytest.FixtureRequest) -> str:
    """Each architecture of Lambda."""
    name: str = request.param
    return name


def build(directory: Path, target: str) -> Path:
    """Build the function in a new folder within `directory`."""
    build_function(SOURCE, directory / "artefact", target, str(UV))
    return directory / "artefact"


def contents(artefact: Path) -> dict[str, bytes]:
    """Every file of an artefact."""
    return {
        str(path.relative_to(artefact)): path.read_bytes()
        for path in artefact.rglob("*")
        if path.is_file()
    }


def binaries(artefact: Path) -> Iterator[tuple[str, bytes]]:
    """Name and header of every ELF file."""
    for path in artefact.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                header = file.read(64)
            if header.startswith(b"\x7fELF"):
                yield str(path.relative_to(artefact)), header


def make(artefact: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the build as `sam build` does, from a copy of lambda/ that has nothing around it."""
    command = [shutil.which("make"), "--makefile", SOURCE / "Makefile", "build-ThumbnailFunction"]
    return subprocess.run(  # noqa: S603 - our own Makefile
        list(map(str, command)),
        cwd=artefact.parent,
        env=os.environ | {"ARTIFACTS_DIR": str(artefact), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_binary_is_of_its_architecture(artefacts: dict[str, Path], target: str) -> None:
    """Pillow's and obstore's extensions, and their libraries, are for the target machine."""
    found = dict(binaries(artefacts[target]))
    assert any(name.startswith("PIL/") for name in found)
    assert any(name.startswith("obstore/") for name in found)
    machines = {name: struct.unpack_from("<H", header, 18)[0] for name, header in found.items()}
    assert set(machines.values()) == {E_MACHINE[target]}, machines


def test_the_stamp_names_architecture_and_version(artefacts: dict[str, Path], target: str) -> None:
    """At init the function compares the one with its machine, and logs the other."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    stamp = {"architecture": target, "version": project["version"]}
    assert json.loads((artefacts[target] / STAMP).read_text()) == stamp
    assert function.STAMP == build_check.STAMP
    assert set(function.PLATFORMS) == set(MACHINES.values())


def test_the_artefact_works_alone(artefacts: dict[str, Path], tmp_path: Path) -> None:
    """It starts and makes thumbnails with only boto3 and the standard library besides.

    This runs the artefact for this machine, in an interpreter without any other package. The start
    includes the handler's check of the machine and the stamp, and the line with the version.
    """
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in RUNTIME_LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec
        assert spec.origin
        found = Path(spec.origin)
        source = found.parent if found.name == "__init__.py" else found
        (runtime / source.name).symlink_to(source)
    pictures = [tmp_path / f"picture.{kind}" for kind in ("jpeg", "png", "avif")]
    for path in pictures:
        path.write_bytes(encoded(quadrants(), path.suffix[1:].upper()))
    done = subprocess.run(  # noqa: S603 - our own artefact
        [
            *(sys.executable, "-I", "-S", "-B", "-c", ALONE),
            *(artefacts[architecture()], runtime, *pictures),
        ],
        env={
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
            "AWS_REGION": "us-east-1",
            "OUTPUT_BUCKET": "thumbnails",
            "DLQ_URL": "https://sqs.us-east-1.amazonaws.com/000000000000/failures",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    started, *made = [json.loads(line) for line in done.stdout.splitlines()]
    version = function.project_version(REPOSITORY / "pyproject.toml")
    assert started.items() >= {"level": "INFO", "action": "init", "version": version}.items()
    assert made == [[kind, [64, 48], "WEBP"] for kind in ("jpeg", "png", "avif")]


def test_every_module_is_compiled(artefacts: dict[str, Path], target: str) -> None:
    """A .pyc of each .py, of this Python, which is used without checking its source (PEP 552).

    Nothing else is in the caches.
    """
    artefact = artefacts[target]
    modules = {
        Path(importlib.util.cache_from_source(str(path))): path for path in artefact.rglob("*.py")
    }
    cached = {path for path in artefact.rglob("*") if path.parent.name == "__pycache__"}
    assert cached == set(modules)
    unchecked = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
    for compiled, source in modules.items():
        hashed = importlib.util.source_hash(source.read_bytes())
        assert compiled.read_bytes().startswith(unchecked + hashed), compiled


def test_the_artefact_has_the_function_and_its_libraries_only(
    artefacts: dict[str, Path], target: str
) -> None:
    """No tests, scripts, locks or build files, and nothing that the runtime has anyway."""
    artefact = artefacts[target]
    names = {path.name for path in artefact.rglob("*")}
    assert names.isdisjoint({"tests", "test", ".lock", "Makefile", "boto3", "botocore"})
    assert names.isdisjoint({"requirements.in", "requirements.txt"})
    assert not (artefact / "bin").exists()
    for path in SOURCE.rglob("*.py"):
        assert (artefact / path.relative_to(SOURCE)).read_bytes() == path.read_bytes()


def test_lambda_can_read_every_file(artefacts: dict[str, Path], target: str) -> None:
    """Whatever the umask of the person who builds: Lambda runs the function as another user."""
    for path in (artefacts[target], *artefacts[target].rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_build_can_be_repeated(artefacts: dict[str, Path], tmp_path: Path, target: str) -> None:
    """The same source makes the same files, byte for byte, wherever and however it is built.

    The second build is the one of lambda/Makefile, which `sam build` runs in a folder of its own.
    """
    artefact = tmp_path / "of sam"
    done = make(artefact, PATH=sam_environment()["PATH"], LAMBDA_ARCHITECTURE=target)
    assert done.returncode == 0, done.stderr
    first, second = contents(artefacts[target]), contents(artefact)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_local_stack_is_built_without_make(
    artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` builds into a folder that is laid out as the sources are, with no tool but uv."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    local = LocalStack(tmp_path / "home")
    local.directory.mkdir()
    local.build()
    assert contents(local.artefact) == contents(artefacts[architecture()])
    assert contents(local.artefact.with_name("iac")) == contents(REPOSITORY / "iac")


def test_the_build_program_runs_in_older_pythons() -> None:
    """lambda/Makefile runs it without this project: Python 3.9 syntax, standard library only."""
    program = Path(function.__file__).read_text()
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(program, feature_version=(3, 9)))
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }
    assert imported <= sys.stdlib_module_names


# --- what fails ---------------------------------------------------------------------------------
def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """The message names the two that exist, and nothing is built."""
    done = make(tmp_path / "out", PATH=sam_environment()["PATH"], LAMBDA_ARCHITECTURE="aarch64")
    assert done.returncode
    assert "The architecture must be arm64 or x86_64, not 'aarch64'" in done.stderr
    assert "LAMBDA_ARCHITECTURE" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_uv_the_build_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a user types `sam build` before any `make`; and from the command itself."""
    done = make(tmp_path / "out", PATH=os.fspath(tmp_path))
    assert done.returncode
    assert "uv, which is not on PATH: run 'make build'" in done.stderr
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(BuildError, match="pip install uv"):
        build_function(SOURCE, tmp_path / "out", "arm64")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_the_source_is_refused(tmp_path: Path) -> None:
    """The message names the file that is missing."""
    with pytest.raises(BuildError, match=r"requirements\.txt does not exist"):
        build_function(tmp_path, tmp_path / "out", "arm64", str(UV))


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    """Only an earlier build or an empty folder is replaced."""
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BuildError, match="has files in it"):
        build_function(SOURCE, tmp_path, "arm64", str(UV))
    assert (tmp_path / "thesis.txt").exists()


def test_a_changed_download_is_refused(tmp_path: Path) -> None:
    """The message has uv's report of the hash, and says not to deploy.

    The earlier build stays as it is.
    """
    artefact = build(tmp_path, "arm64")
    before = contents(artefact)
    source = shutil.copytree(SOURCE, tmp_path / "source")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    requirements = source / "requirements.txt"
    requirements.write_text(re.sub("sha256:....", "sha256:0000", requirements.read_text()))
    with pytest.raises(BuildError) as raised:
        build_function(source, artefact, "arm64", str(UV))
    assert "Hash mismatch for" in str(raised.value)
    assert "do not deploy" in str(raised.value)
    assert contents(artefact) == before
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"artefact", "pyproject.toml", "source"}


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_build_says_so(tmp_path: Path) -> None:
    """The message has uv's report, and says what to check."""
    with pytest.raises(BuildError, match="Check the network connection"):
        build_function(SOURCE, tmp_path / "out", "arm64", str(UV))
    assert not (tmp_path / "out").exists()
