"""The artefact that `sam build` makes, for each architecture: all that it needs, and no more."""

import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import encoded, quadrants

from image_pipeline.local.stack import REPOSITORY, LocalStack, architecture, sam_environment
from thumbnailer.build_check import MACHINES, STAMP

pytestmark = pytest.mark.local_stack

E_MACHINE = {"x86_64": 62, "arm64": 183}
"""EM_X86_64 and EM_AARCH64 of the ELF header (https://man7.org/linux/man-pages/man5/elf.5.html)."""

OF_THE_RUNTIME = (
    *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3"),
    "six",
)
"""boto3 and what it needs: the one library that Lambda's runtime brings."""

ALONE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import handler, image_utils
from thumbnailer.settings import Settings, parse_sizes
specs = Settings('', '', sizes=parse_sizes('64')).specs
for path in sys.argv[3:]:
    with open(path, "rb") as file:
        [thumbnail] = image_utils.make_thumbnails(file.read(), specs, 512).thumbnails
    print(json.dumps([path.rpartition(".")[2], thumbnail.size, thumbnail.data[8:12].decode()]))
"""
"""Import the function from the paths given first, and make thumbnails of the other ones."""


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The function, built for every architecture that Lambda has."""
    return {
        target: build(tmp_path_factory.mktemp(target), target)
        for target in sorted(set(MACHINES.values()))
    }


@pytest.fixture(params=sorted(set(MACHINES.values())))
def target(request: pytest.FixtureRequest) -> str:
    """Each architecture that Lambda has."""
    name: str = request.param
    return name


def build(directory: Path, target: str) -> Path:
    """Build the function as `make build` does."""
    local = LocalStack(directory)
    local.build(target)
    return local.artefact


def binaries(artefact: Path) -> Iterator[tuple[str, bytes]]:
    """Name and header of every ELF file."""
    for path in artefact.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                header = file.read(64)
            if header.startswith(b"\x7fELF"):
                yield str(path.relative_to(artefact)), header


def make(artefact: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the build as sam does, without sam."""
    command = [shutil.which("make"), "-C", REPOSITORY / "lambda", "build-ThumbnailFunction"]
    return subprocess.run(  # noqa: S603 - our own Makefile
        list(map(str, command)),
        env={"ARTIFACTS_DIR": str(artefact), **environment},
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


def test_the_stamp_tells_the_architecture(artefacts: dict[str, Path], target: str) -> None:
    """What init compares with the machine that it runs on."""
    assert json.loads((artefacts[target] / STAMP).read_text()) == {"architecture": target}


def test_the_artefact_works_alone(artefacts: dict[str, Path], tmp_path: Path) -> None:
    """With nothing but itself, boto3 and the standard library it starts and makes thumbnails.

    The one for this machine, whichever that is, in an interpreter without any other package; the
    handler's own check of machine and stamp included.
    """
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in OF_THE_RUNTIME:
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
            "DLQ_URL": "https://sqs.us-east-1.amazonaws.com/000000000000/letters",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [kind, [64, 48], "WEBP"] for kind in ("jpeg", "png", "avif")
    ]


def test_every_module_is_compiled_once_and_for_all(artefacts: dict[str, Path], target: str) -> None:
    """A .pyc of each .py, of this Python, which is taken without a look at its source (PEP 552).

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


def test_nothing_is_shipped_that_is_not_needed(artefacts: dict[str, Path], target: str) -> None:
    """No tests, no scripts, no locks, no build files, and nothing that the runtime has anyway."""
    names = {path.name for path in artefacts[target].rglob("*")}
    assert names.isdisjoint({"tests", "test", ".lock", "Makefile", "boto3", "botocore"})
    assert not (artefacts[target] / "bin").exists()


def test_a_build_can_be_repeated(artefacts: dict[str, Path], tmp_path: Path, target: str) -> None:
    """The same source makes the same files, byte for byte, wherever it is built."""

    def contents(artefact: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(artefact)): path.read_bytes()
            for path in artefact.rglob("*")
            if path.is_file()
        }

    first, second = contents(artefacts[target]), contents(build(tmp_path, target))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """The build says which there are, and makes nothing."""
    done = make(tmp_path / "out", PATH=sam_environment()["PATH"], LAMBDA_ARCHITECTURE="aarch64")
    assert done.returncode
    assert "LAMBDA_ARCHITECTURE must be arm64 or x86_64, not 'aarch64'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_uv_the_build_says_how_to_get_it(tmp_path: Path) -> None:
    """As when a user types `sam build` before any `make`."""
    done = make(tmp_path / "out", PATH=os.fspath(tmp_path))
    assert done.returncode
    assert "uv is not on PATH: run 'make build'" in done.stderr
    assert not (tmp_path / "out").exists()
