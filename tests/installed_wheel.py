"""The wheel of this checkout, installed into an environment outside of it."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
UV = REPOSITORY / ".tools" / "uv" / "bin" / "uv"

DOWNLOADS = re.compile(r"UV_|SSL_CERT_|(HTTPS?|ALL|NO)_PROXY$", re.IGNORECASE)
"""Variables that uv needs for its downloads, on machines where these are restricted."""


@dataclass(frozen=True)
class InstalledWheel:
    """An environment with the wheel and its dependencies, and the empty folder to use it from."""

    environment: Path
    home: Path

    @property
    def command(self) -> Path:
        """The installed `image-pipeline`."""
        return self.environment / "bin" / "image-pipeline"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return self.environment / "lib" / "python3.13" / "site-packages"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a user who has only configured downloads."""
        return {
            "PATH": f"{UV.parent}{os.pathsep}{os.defpath}",
            "HOME": str(self.home),
            "COLUMNS": "100",
            "AWS_EC2_METADATA_DISABLED": "true",  # no machine's own credentials
            "PYTHONDONTWRITEBYTECODE": "1",  # a test compares the files of site-packages
            "UV_CACHE_DIR": uv("cache", "dir").strip(),
            **{name: value for name, value in os.environ.items() if DOWNLOADS.match(name)},
        }

    def run(
        self, *words: object, code: int | None = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `image-pipeline`, and check its exit code, unless it may be any."""
        return self._run(self.command, *words, code=code, **variables)

    def python(
        self, program: str, *words: object, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program in the environment, and check its exit code."""
        return self._run(self.environment / "bin" / "python", "-c", program, *words, code=code)

    def _run(
        self, *words: object, code: int | None = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(  # noqa: S603 - the command under test
            list(map(str, words)),
            cwd=self.home,
            env=self.variables | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code in (None, ran.returncode), ran.stdout + ran.stderr
        return ran


def build_wheel(source: Path, target: Path) -> Path:
    """Build the wheel of the checkout `source` in the folder `target`, without downloads."""
    uv(
        "build",
        "--wheel",
        "--no-build-isolation",
        f"--python={sys.executable}",
        "-o",
        target,
        source,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


def install_wheel(folder: Path) -> InstalledWheel:
    """Build the wheel and install it below `folder`, with the pinned versions of what it needs."""
    assert not folder.is_relative_to(REPOSITORY)
    installed = InstalledWheel(folder / "environment", folder / "home")
    installed.home.mkdir()
    wheel = build_wheel(REPOSITORY, folder / "dist")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements = folder / "requirements.txt"
    requirements.write_text(f"image-pipeline @ {wheel.as_uri()} --hash=sha256:{digest}\n")
    uv("venv", f"--python={sys.executable}", installed.environment)
    uv(
        *("pip", "install", f"--python={installed.environment}", "--require-hashes"),
        *("--constraint", REPOSITORY / "requirements" / "dev.txt", "-r", requirements),
    )
    return installed


def uv(*words: object) -> str:
    """Run uv, with its errors shown if it fails; what it prints."""
    ran = subprocess.run(  # noqa: S603 - our own tool
        [UV, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
