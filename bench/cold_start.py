"""How long the function takes to start and to serve its first event, beside the usual handler.

Every start is a fresh process under image_pipeline.runtime_emulator, which runs AWS's own runtime
client; S3 is moto on the loopback interface. So the times are emulated: good for comparison within
a run, as ratios, not for what a bill will say. What AWS adds before the process starts (fetching
the code, booting a virtual machine) is the same for all and not in them.
"""

import importlib.metadata
import importlib.util
import json
import logging
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote_plus

import boto3
import typer
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from bench.experiment import (
    PHOTO_BYTES,
    REPOSITORY,
    RESULTS,
    WORK,
    Photo,
    Spread,
    commit,
    machine,
    photo_of,
)
from bench.limits import LimitUnavailable, limited
from image_pipeline.errors import CommandError
from image_pipeline.local.runtime_emulator import LAMBDA, PYTHON, TOOLS, Invocation, RuntimeEmulator
from image_pipeline.local.tools import architecture, sam_environment

RESULT: Final = RESULTS / "cold_start.json"

MEMORY_MB: Final = 512
LAMBDA_SHARE: Final = 0.29
"""CPUs that 512 MB bring: 1,769 MB bring one
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

WIDTHS: Final = (128, 512)
INPUT: Final = "uploads"
OUTPUT: Final = "thumbnails"
SETTINGS: Final = {
    "INPUT_BUCKET": INPUT,
    "OUTPUT_BUCKET": OUTPUT,
    "THUMB_SIZES": ",".join(map(str, WIDTHS)),
    "WEBP_QUALITY": "85",
    "DLQ_URL": "http://127.0.0.1/dead-letters",  # never written to here
}

LIBRARIES: Final = ("aws-lambda-powertools", "awslambdaric", "boto3", "obstore", "pillow")
"""Whose versions are told."""

PART_ROUNDS: Final = 5
"""Of the cold starts that are taken apart."""

OURS: Final = "this pipeline"
PLAIN: Final = "usual handler"
PLAIN_COMPILED: Final = "usual handler, with .pyc"

err = Console(highlight=False, stderr=True)


@dataclass(frozen=True, slots=True)
class Result:
    """One function at one share of a CPU; times in wall ms.

    `times_ours` compares the medians of `cold_start_ms`, which is init and first event together.
    """

    cpu: float | None
    function: str
    init_ms: Spread
    first_event_ms: Spread
    cold_start_ms: Spread
    max_memory_mb: float
    times_ours: float


def measure(
    rounds: int, artefacts: dict[str, Path], photo: Photo
) -> tuple[list[Result], str | None]:
    """Start every artefact `rounds` times at each share of a CPU, in turns.

    The second value says why there is no limited CPU, if so. Raises CommandError if an artefact
    does not make its thumbnails.
    """
    skipped = None
    with ExitStack() as stack:
        commands: dict[float | None, tuple[str, ...]] = {None: ()}
        try:
            commands[LAMBDA_SHARE] = stack.enter_context(limited(cpu=LAMBDA_SHARE))
        except LimitUnavailable as error:
            skipped = str(error)
        found: dict[tuple[float | None, str], list[Invocation]] = {
            (share, name): [] for share in commands for name in artefacts
        }
        s3 = stack.enter_context(local_s3(photo))
        progress = stack.enter_context(Progress(console=err, transient=True))
        starts = (rounds + 1) * len(commands) * len(artefacts)
        task = progress.add_task("Starting functions", total=starts)
        for number in range(rounds + 1):
            for share, command in commands.items():
                for name, artefact in artefacts.items():
                    invocation = cold_start(artefact, command, photo, s3)
                    if number > 0:  # the first round warms the disk's cache
                        found[share, name].append(invocation)
                    progress.advance(task)
    return summarised(found), skipped


def cold_start(artefact: Path, command: tuple[str, ...], photo: Photo, s3: "LocalS3") -> Invocation:
    """Start one function, let it make the thumbnails, and check and remove them."""
    environment = {**SETTINGS, "AWS_ENDPOINT_URL": s3.endpoint}
    with RuntimeEmulator(
        artefact, environment, memory_mb=MEMORY_MB, timeout=30, command=command
    ) as emulator:
        invocation = emulator.invoke(event_of(photo))
    if invocation.error:
        raise CommandError(
            f"{artefact} failed with {invocation.error.type}: {invocation.error.message}\n"
            + "\n".join(invocation.log)
        )
    s3.take(photo)
    return invocation


@dataclass(frozen=True, slots=True)
class Parts:
    """What one function's cold start is made of, in wall ms by part (medians)."""

    cpu: float | None
    function: str
    ms: dict[str, float]


def parts(rounds: int, artefacts: dict[str, Path], photo: Photo) -> list[Parts]:
    """Take cold starts apart, without the emulator: see cold_parts.py."""
    with ExitStack() as stack:
        commands: dict[float | None, tuple[str, ...]] = {None: ()}
        with suppress(LimitUnavailable):
            commands[LAMBDA_SHARE] = stack.enter_context(limited(cpu=LAMBDA_SHARE))
        photos = (photo, replace(photo, name=f"next-{photo.name}"))
        s3 = stack.enter_context(local_s3(*photos))
        found: dict[tuple[float | None, str], list[dict[str, float]]] = {
            (share, name): [] for share in commands for name in artefacts
        }
        for _ in range(rounds):
            for (share, name), runs in found.items():
                runs.append(_taken_apart(commands[share], artefacts[name], photos, s3))
    return [
        Parts(
            share,
            name,
            {part: round(statistics.median(run[part] for run in runs), 1) for part in runs[0]},
        )
        for (share, name), runs in found.items()
    ]


def _taken_apart(
    command: tuple[str, ...], artefact: Path, photos: Sequence[Photo], s3: "LocalS3"
) -> dict[str, float]:
    environment = LAMBDA | SETTINGS | {"AWS_ENDPOINT_URL": s3.endpoint}
    began = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own tools
        [*command, PYTHON, "-c", ""], cwd=artefact, env=environment, check=True
    )
    interpreter = (time.perf_counter() - began) * 1000
    ran = subprocess.run(  # noqa: S603
        [*command, PYTHON, REPOSITORY / "bench" / "cold_parts.py"],
        cwd=artefact,
        env=environment,
        input=json.dumps([event_of(photo) for photo in photos]),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise CommandError(f"{artefact} failed:\n{ran.stderr}")
    for photo in photos:
        s3.take(photo)
    told: dict[str, float] = json.loads(ran.stdout)
    return {"interpreter": interpreter, **told}


class LocalS3:
    """An S3 server with an input and an output bucket; it waits `wait_s` before each answer."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.wait_s = 0.0
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=LAMBDA["AWS_REGION"],
            aws_access_key_id=LAMBDA["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=LAMBDA["AWS_SECRET_ACCESS_KEY"],
        )

    def prepare(self, *photos: Photo) -> None:
        """Make the buckets and upload the photos."""
        for name in (INPUT, OUTPUT):
            self._s3.create_bucket(Bucket=name)
        for photo in photos:
            self.copy(photo, [photo.key])

    def copy(self, photo: Photo, keys: Sequence[str]) -> None:
        """Upload a photo under each of `keys`."""
        for key in keys:
            self._s3.put_object(Bucket=INPUT, Key=key, Body=photo.data)

    def take(self, photo: Photo) -> None:
        """Remove the thumbnails of `photo`; raise CommandError if one is missing or wrong."""
        for width in WIDTHS:
            key = f"{Path(photo.name).stem}_{width}w.webp"
            listed = self._s3.list_objects_v2(Bucket=OUTPUT, Prefix=key).get("Contents")
            if not listed:
                raise CommandError(f"The function made no {key}")
            data = self._s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read()
            with Image.open(BytesIO(data)) as image:
                if (image.format, image.width) != ("WEBP", width):
                    raise CommandError(f"{key} is {image.format} of {image.width} pixels")
            self._s3.delete_object(Bucket=OUTPUT, Key=key)


@contextmanager
def local_s3(*photos: Photo) -> Iterator[LocalS3]:
    """An S3 server on the loopback interface, with the photos in its input bucket."""
    # Not for --help: it takes a second.
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: Any, start_response: Any) -> Any:
        time.sleep(s3.wait_s)
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    s3 = LocalS3(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        s3.prepare(*photos)
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def event_of(photo: Photo, as_key: str | None = None) -> dict[str, Any]:
    """The notification that S3 sends of the photo's upload, as far as a function looks at it."""
    stored = {"key": quote_plus(as_key or photo.key, safe="/"), "size": len(photo.data)}
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": INPUT}, "object": stored},
            }
        ]
    }


def summarised(found: dict[tuple[float | None, str], list[Invocation]]) -> list[Result]:
    """Medians, quartiles and ratios."""

    def totals(share: float | None, name: str) -> Spread:
        return Spread.of([(each.init_ms or 0.0) + each.duration_ms for each in found[share, name]])

    return [
        Result(
            cpu=share,
            function=name,
            init_ms=Spread.of([each.init_ms or 0.0 for each in invocations]),
            first_event_ms=Spread.of([each.duration_ms for each in invocations]),
            cold_start_ms=totals(share, name),
            max_memory_mb=statistics.median(each.max_memory_mb or 0 for each in invocations),
            times_ours=round(totals(share, name).median / totals(share, OURS).median, 2),
        )
        for (share, name), invocations in found.items()
    ]


# --- what is started ----------------------------------------------------------------------------
def build() -> dict[str, Path]:
    """Build the artefacts for this machine and check their bytecode."""
    artefacts = {OURS: build_ours(), PLAIN: build_plain(), PLAIN_COMPILED: WORK / "plain-pyc"}
    shutil.rmtree(artefacts[PLAIN_COMPILED], ignore_errors=True)
    shutil.copytree(artefacts[PLAIN], artefacts[PLAIN_COMPILED])
    run(
        *(PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
        artefacts[PLAIN_COMPILED],
    )
    # The runtime's own modules too: they are no part of the comparison.
    run(
        *(PYTHON, "-m", "compileall", "-q"),
        *(runtime_packages() / name for name in ("awslambdaric", "simplejson")),
    )
    return artefacts


def build_ours() -> Path:
    """What `sam build` makes of the pipeline for this machine."""
    run(
        *(TOOLS / "sam" / "bin" / "sam", "build"),
        *("--template-file", REPOSITORY / "iac" / "template.yaml"),
        *("--build-dir", WORK / "build"),
    )
    return WORK / "build" / "ThumbnailFunction"


def build_plain() -> Path:
    """The usual handler with its libraries, in the versions that ours has, without .pyc files.

    That is what AWS's builds of a function hold.
    """
    artefact = WORK / "plain"
    shutil.rmtree(artefact, ignore_errors=True)
    run(
        *(TOOLS / "uv" / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON),
        *("--target", artefact, "--only-binary", ":all:", "--link-mode", "copy"),
        *("--constraint", REPOSITORY / "requirements" / "dev.txt"),
        *("boto3", "pillow", "aws-lambda-powertools"),
    )
    shutil.copy(REPOSITORY / "bench" / "plain" / "handler.py", artefact)
    return artefact


def check_bytecode(artefacts: dict[str, Path]) -> None:
    """Raise CommandError unless each artefact has the .pyc files that it is measured with.

    That is none for the plain one; else one for each module, which Python takes without a look at
    its source (https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation), of
    this very source.
    """
    if stray := next(artefacts[PLAIN].rglob("*.pyc"), None):
        raise CommandError(f"{stray} should not be there")
    for name in (OURS, PLAIN_COMPILED):
        for source in artefacts[name].rglob("*.py"):
            compiled = Path(importlib.util.cache_from_source(str(source)))
            unchecked_hash = (0b01).to_bytes(4, "little")
            header = (
                importlib.util.MAGIC_NUMBER
                + unchecked_hash
                + importlib.util.source_hash(source.read_bytes())
            )
            if not compiled.exists() or compiled.read_bytes()[: len(header)] != header:
                raise CommandError(f"{compiled} is missing, stale or of another Python")


def run(*command: str | Path) -> None:
    """Run a tool of ours; raise CommandError with what it said if it fails."""
    environment = sam_environment() | {"LAMBDA_ARCHITECTURE": architecture()}
    try:
        done = subprocess.run(  # noqa: S603 - our own tools
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise CommandError(f"{error.filename} is not there: run `make setup`") from error
    if done.returncode:
        raise CommandError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


# --- what is told -------------------------------------------------------------------------------
def report(
    results: list[Result],
    skipped: str | None,
    photo: Photo,
    rounds: int,
    built: dict[str, str],
) -> dict[str, Any]:
    """Everything, for the results file: with it a run can be judged, and repeated."""
    return {
        "what": "cold starts in fresh processes, emulated on one machine: compare only as ratios",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "memory_mb": MEMORY_MB,
        "photo": {"name": photo.name, "bytes": len(photo.data)}
        | {"width": photo.width, "height": photo.height},
        "machine": machine(),
        "versions": built,
        "skipped": skipped,
        "results": [asdict(result) for result in results],
    }


def versions(artefacts: dict[str, Path]) -> dict[str, str]:
    """Those of the function, of its libraries and of what runs it."""
    libraries = {
        package.name.replace("_", "-"): package.version
        for path in (*artefacts.values(), runtime_packages())
        for package in importlib.metadata.distributions(path=[str(path)])
        if package.name.replace("_", "-") in LIBRARIES
    }
    return {"commit": commit(), "python": platform.python_version(), **libraries}


def runtime_packages() -> Path:
    """Where the packages of the runtime's Python are."""
    return next(PYTHON.parents[1].glob("lib/python3.*/site-packages"))


def show(results: list[Result], skipped: str | None, photo: Photo, rounds: int) -> None:
    """The table, for a person."""
    table = Table(
        title=f"Emulated cold starts, {rounds} rounds in turns, wall ms: median, quartiles",
        caption=f"{photo.name}, {len(photo.data):,} bytes, {photo.width} × {photo.height}; "
        f"moto as S3, {machine()['cpu']}",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("CPU", "function", "init", "first event", "cold start", "× ours", "MB"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for result in results:
        if result.function == OURS:
            table.add_section()
        table.add_row(
            str(result.cpu or "full"),
            result.function,
            str(result.init_ms),
            str(result.first_event_ms),
            str(result.cold_start_ms),
            f"[bold]{result.times_ours:.1f}[/]",
            f"{result.max_memory_mb:.0f}",
        )
    out = Console(highlight=False)
    out.print(table)
    if skipped:
        out.print(f"Not measured at {LAMBDA_SHARE} CPU: {escape(skipped)}")


def cold_starts(
    rounds: Annotated[int, typer.Option(min=2, help="Starts of each function.")] = 11,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Measure cold starts: this pipeline against the thumbnail handler that is usually written.

    Both are built for this machine and started in AWS's own runtime client, at full CPU and, for
    root on Linux, at the 0.29 CPU of a 512 MB function. The result also goes to
    bench/results/cold_start.json.

    **Examples**

    `python -m bench.cold_start`

    `python -m bench.cold_start --rounds 3 --json`
    """
    photo = photo_of(PHOTO_BYTES)
    with err.status("Building the functions"):
        artefacts = build()
    built = versions(artefacts)  # now: the working tree may change meanwhile
    check_bytecode(artefacts)
    results, skipped = measure(rounds, artefacts, photo)
    with err.status("Taking cold starts apart"):
        taken_apart = parts(PART_ROUNDS, artefacts, photo)
    check_bytecode(artefacts)  # no run has left any
    found = report(results, skipped, photo, rounds, built)
    found["parts"] = [asdict(each) for each in taken_apart]
    RESULTS.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output
    else:
        show(results, skipped, photo, rounds)


def main() -> None:
    """Run the benchmark; what stops it is said in one message, with exit code 1."""
    app = typer.Typer(
        add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
    )
    app.command()(cold_starts)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        app()
    except CommandError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
