"""Makes every file of a release: `make release`.

    python -m tools.release FOLDER [--tag v1.2.3]

The files are made of the commit that is checked out, twice and in two folders. They must be the
same, byte for byte. Publishing is left to .github/workflows/release.yaml.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from image_pipeline.build.function import PLATFORMS, BuildError
from image_pipeline.build.package import package
from image_pipeline.build.sources import Sources
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.output import err, foreign, out
from image_pipeline.errors import CommandError
from tools.readme import with_addresses
from tools.version import PROJECT, REPOSITORY, TEMPLATE, embedded

CHECKSUMS: Final = "SHA256SUMS"
NOTES: Final = "release-notes.md"

PREFIX: Final = "image-pipeline/"
"""Prefix of the package's keys in the bucket that it is published to."""

MAX_NOTES: Final = 125_000
"""Characters of the text of a release. GitHub's API answers 422 above it."""

PLACEHOLDER: Final = "/OWNER/"
"""What the addresses of this repository have until somebody publishes it."""

app = new_app()


@app.command()
def release(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the files.")],
    *,
    tag: Annotated[
        str | None, typer.Option(help="The tag of the release, which must be that of the version.")
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            envvar="RELEASE_BUCKET",
            help="Bucket that the package is published to, such as my-releases-{region}.",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Only make the files, of this folder as it is.")
    ] = False,
) -> None:
    """Make every file of a release, twice, and check that both are the same.

    Without --tag it is a rehearsal: the version may have no section in the changelog yet, and its
    text is then that of Unreleased. The files are those of the last commit; what is not committed
    is left out.

    **Examples**

    `python -m tools.release dist`

    `python -m tools.release dist --tag v1.2.3 --bucket 'my-releases-{region}'`
    """
    if once:
        make_files(folder, bucket or None)
        return
    version, notes = checked(tag)
    clear(folder)
    with tempfile.TemporaryDirectory() as scratch:
        made = []
        for turn in ("first", "second"):
            target = Path(scratch) / f"{turn}-files"
            with (
                err.status(f"Making the files of {version} for the {turn} time"),
                commit_in(Path(scratch) / turn) as source,
            ):
                run_there(source, target, bucket)
            made.append(target)
        first, second = map(checksums, made)
        if differing := sorted(
            name for name in {*first, *second} if first.get(name) != second.get(name)
        ):
            raise CommandError(
                f"Two builds of the same commit differ in {', '.join(differing)}. A release must "
                "be reproducible: compare the two with a tool such as diffoscope."
            )
        shutil.copytree(made[0], folder, dirs_exist_ok=True)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(first.items()))
    (folder / CHECKSUMS).write_text(lines)
    (folder / NOTES).write_text(notes, encoding="utf-8")
    out.print(f"Version {version}, twice the same:")
    for name in sorted(first):
        out.print(f"  {foreign(str(folder / name))}", soft_wrap=True)
    out.print(f"with {CHECKSUMS} and {NOTES}")


def checked(tag: str | None) -> tuple[str, str]:
    """Return the version and the text of its release.

    Raises CommandError unless tag, pyproject.toml, template and changelog agree.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    version: str = project["version"]
    if tag is not None and tag != f"v{version}":
        raise CommandError(
            f"The tag is {tag}, and the version in pyproject.toml {version}. Set the version with "
            "`make version VERSION=…`, commit, and move the tag."
        )
    template = TEMPLATE.read_text(encoding="utf-8")
    if embedded(template, version) != template:
        raise CommandError("iac/template.yaml has another version. Run `make version`.")
    address: str = project["urls"]["Documentation"].partition("/blob/")[0]
    if tag is not None and PLACEHOLDER in f"{address}/":
        raise CommandError(
            f"The address of the repository is {address}. Put its owner into pyproject.toml and "
            "iac/template.yaml: the alarms link there."
        )
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    text = section(changelog, version)
    if text is None and tag is None:
        text = section(changelog, "Unreleased")
    if not text:
        raise CommandError(
            f"CHANGELOG.md has nothing about {version}. Write a section `## [{version}] - DATE`."
        )
    notes = with_addresses(text, f"{address}/blob/v{version}", f"{address}/raw/v{version}")
    if len(notes) > MAX_NOTES:
        raise CommandError(
            f"The section of CHANGELOG.md has {len(notes):,} characters, and a release on GitHub "
            f"at most {MAX_NOTES:,}."
        )
    return version, notes


def section(changelog: str, name: str) -> str | None:
    """Return the text under the heading of a version; None if there is no such heading."""
    found = re.search(rf"(?ms)^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog)
    return found[1].strip() + "\n" if found else None


def clear(folder: Path) -> None:
    """Remove what an earlier run has made. Raises CommandError if something else is there."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / CHECKSUMS).is_file():
            raise CommandError(f"{folder} has other files in it. Remove them, or name another.")
        shutil.rmtree(folder)


@contextmanager
def commit_in(folder: Path) -> Iterator[Path]:
    """Check the current commit out in a new folder, for as long as the context lasts."""
    git("worktree", "add", "--quiet", "--detach", str(folder), "HEAD")
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*words: str) -> None:
    """Run git in this repository. Raises CommandError with what it wrote."""
    run(["git", "-C", str(REPOSITORY), *words], REPOSITORY)


def run_there(source: Path, target: Path, bucket: str | None) -> None:
    """Make the files with the code of `source`, not with this one, which may have changed."""
    words = [sys.executable, "-m", "tools.release", str(target), "--once"]
    paths = os.pathsep.join(map(str, (source, source / "lambda")))
    run(words, source, {"PYTHONPATH": paths, "RELEASE_BUCKET": bucket or ""})


def run(words: list[str], folder: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run a program in `folder`. Raises CommandError with what it wrote if it fails."""
    ran = subprocess.run(  # noqa: S603 - programs of this project
        words,
        cwd=folder,
        env=os.environ | (variables or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode:
        raise CommandError(f"`{' '.join(words)}` failed:\n{ran.stdout}{ran.stderr}".rstrip())


def make_files(folder: Path, bucket: str | None) -> None:
    """Make wheel, sdist, package and SBOM of this folder's code. Raises CommandError."""
    folder.mkdir(parents=True)
    try:
        made = package(
            Sources.below(REPOSITORY), folder, [*PLATFORMS], bucket=bucket, prefix=PREFIX
        )
    except BuildError as error:
        raise CommandError(str(error)) from error
    run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], REPOSITORY)
    bom = folder / f"image-pipeline-{made.version}-sbom.cdx.json"
    options = ["--output-reproducible", "-o", str(bom)]
    run(["cyclonedx-py", "requirements", "lambda/requirements.txt", *options], REPOSITORY)


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


if __name__ == "__main__":
    run_app(app)
