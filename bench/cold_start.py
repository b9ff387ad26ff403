"""Measures cold starts of the function, first event included, beside a typical handler.

Each start is a fresh process under image_pipeline.local.runtime_emulator, which runs AWS's own
runtime client; S3 is moto on loopback. So the times are emulated: compare them within a run, as
ratios. They do not include what AWS does before the process starts (fetch the code, boot a virtual
machine), which is the same for all functions.
"""

import importlib.metadata
import importlib.util
import itertools
import json
import logging
import platform
import shutil
import statistics
import subprocess
import threading
import time
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
from rich.markup import escape
from rich.table import Table

from bench.limits import LimitUnavailable, limited
from bench.photos import PHOTO_BYTES, Photo, photo_of
from bench.record import REPOSITORY, RESULTS, WORK, Spread, commit, load, machine
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.local.runtime_emulator import LAMBDA, PYTHON, TOOLS, Invocation, RuntimeEmulator
from image_pipeline.local.tools import architecture, sam_environment

RESULT: Final = RESULTS / "cold_start.json"

MEMORY_MB: Final = 512
"""The default of LambdaMemorySize."""

LAMBDA_SHARE: Final = 0.29
"""vCPUs of a function with 512 MB: 1,769 MB have one vCPU
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

WIDTHS: Final = (128, 512)
"""Of the thumbnails in pixels, the default of ThumbnailSizes."""

INPUT: Final = "uploads"
OUTPUT: Final = "thumbnails"
SETTINGS: Final = {
    "INPUT_BUCKET": INPUT,
    "OUTPUT_BUCKET": OUTPUT,
    "THUMB_SIZES": ",".join(map(str, WIDTHS)),
    "WEBP_QUALITY": "85",
    "DLQ_URL": "http://127.0.0.1/dead-letters",  # never used here
}
"""Environment variables of every measured function."""

LIBRARIES: Final = ("aws-lambda-powertools", "awslambdaric", "boto3", "obstore", "pillow")
"""Libraries whose versions the results file records."""

PART_ROUNDS: Final = 5
"""Cold starts of each function that are measured in parts."""

OURS: Final = "this pipeline"
PLAIN: Final = "usual handler"
PLAIN_COMPILED: Final = "usual handler, with .pyc"

app = new_app()


@dataclass(frozen=True, slots=True)
class Result:
    """One function at one share of a vCPU (None: a full CPU); times are wall time in ms.

    `cold_start_ms` is init plus first event. `times_ours` is its median as a multiple of this
    pipeline's.
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
    """Start every built function `rounds` times at each share of a CPU, in turns.

    The second value is None, or says why the CPU could not be limited. Raises CommandError if a
    function does not make its thumbnails.
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
        progress = stack.enter_context(progress_bar())
        starts = (rounds + 1) * len(commands) * len(artefacts)
        task = progress.add_task("Starting functions", total=starts)
        for number in range(rounds + 1):
            for share, command in commands.items():
                for name, artefact in artefacts.items():
                    invocation = cold_start(artefact, command, photo, s3)
                    if number > 0:  # the first round only fills the disk cache
                        found[share, name].append(invocation)
                    progress.advance(task)
    return results_of(found), skipped


def cold_start(artefact: Path, command: tuple[str, ...], photo: Photo, s3: "LocalS3") -> Invocation:
    """Start one function with an event, and check and delete the thumbnails that it makes."""
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
    s3.check_and_delete(photo)
    return invocation


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one function's cold start: medians of wall time in ms, by name of the part."""

    cpu: float | None
    function: str
    ms: dict[str, float]


def parts(rounds: int, artefacts: dict[str, Path], photo: Photo) -> list[Parts]:
    """Measure cold starts in parts, without the emulator: see cold_start_worker.py."""
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
                runs.append(_parts_of_one(commands[share], artefacts[name], photos, s3))
    return [
        Parts(
            share,
            name,
            {part: round(statistics.median(run[part] for run in runs), 1) for part in runs[0]},
        )
        for (share, name), runs in found.items()
    ]


def _parts_of_one(
    command: tuple[str, ...], artefact: Path, photos: Sequence[Photo], s3: "LocalS3"
) -> dict[str, float]:
    environment = LAMBDA | SETTINGS | {"AWS_ENDPOINT_URL": s3.endpoint}
    began = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own tools
        [*command, PYTHON, "-c", ""], cwd=artefact, env=environment, check=True
    )
    interpreter = (time.perf_counter() - began) * 1000
    ran = subprocess.run(  # noqa: S603
        [*command, PYTHON, REPOSITORY / "bench" / "cold_start_worker.py"],
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
        s3.check_and_delete(photo)
    measured: dict[str, float] = json.loads(ran.stdout)
    return {"interpreter": interpreter, **measured}


class LocalS3:
    """An S3 server with an input and an output bucket; it waits `wait_s` before each response.

    `requests` has the method of each request so far.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.wait_s = 0.0
        self.requests: list[str] = []
        account = boto3.Session(
            region_name=LAMBDA["AWS_REGION"],
            aws_access_key_id=LAMBDA["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=LAMBDA["AWS_SECRET_ACCESS_KEY"],
        )
        self._s3: Any = account.client("s3", endpoint_url=endpoint)
        self._sqs: Any = account.client("sqs", endpoint_url=endpoint)
        self._queue = ""

    def prepare(self, *photos: Photo) -> None:
        """Create the buckets and upload the photos."""
        for name in (INPUT, OUTPUT):
            self._s3.create_bucket(Bucket=name)
        for photo in photos:
            self.copy(photo, [photo.key])

    def create_queue(self) -> str:
        """Create a dead-letter queue; return its URL."""
        # Within a process moto's queues outlive its server, so each has a name of its own.
        name = f"dead-letters-{self.endpoint.rpartition(':')[2]}"
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        return self._queue

    def take_messages(self) -> list[dict[str, Any]]:
        """Receive and delete up to ten messages of the queue."""
        received = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        messages = received.get("Messages", [])
        for each in messages:
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=each["ReceiptHandle"])
        return [json.loads(each["Body"]) for each in messages]

    def copy(self, photo: Photo, keys: Sequence[str]) -> None:
        """Upload a photo under each of `keys`."""
        for key in keys:
            self._s3.put_object(Bucket=INPUT, Key=key, Body=photo.data)

    def check_and_delete(self, photo: Photo, formats: Sequence[str] = ("webp",)) -> None:
        """Delete the thumbnails of `photo`. Raises CommandError if one is missing or wrong."""
        for width, name in itertools.product(WIDTHS, formats):
            key = f"{Path(photo.name).stem}_{width}w.{name}"
            listed = self._s3.list_objects_v2(Bucket=OUTPUT, Prefix=key).get("Contents")
            if not listed:
                raise CommandError(f"The function made no {key}")
            data = self._s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read()
            with Image.open(BytesIO(data)) as image:
                if (image.format, image.width) != (name.upper(), width):
                    raise CommandError(f"{key} is {image.format} of {image.width} pixels")
            self._s3.delete_object(Bucket=OUTPUT, Key=key)


@contextmanager
def local_s3(*photos: Photo) -> Iterator[LocalS3]:
    """Run an S3 server on loopback, with the photos in its input bucket."""
    # Imported here because it takes a second, which --help does not need.
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no log line for each request
    moto = DomainDispatcherApplication(create_backend_app)

    def respond(environ: Any, start_response: Any) -> Any:
        s3.requests.append(environ["REQUEST_METHOD"])
        time.sleep(s3.wait_s)
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, respond, threaded=True)
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
    """The notification of S3 about the photo's upload, with the fields that functions read."""
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


def results_of(measured: dict[tuple[float | None, str], list[Invocation]]) -> list[Result]:
    """Compute medians, quartiles and ratios."""

    def totals(share: float | None, name: str) -> Spread:
        return Spread.of(
            [(each.init_ms or 0.0) + each.duration_ms for each in measured[share, name]]
        )

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
        for (share, name), invocations in measured.items()
    ]


# --- the functions ------------------------------------------------------------------------------
def build() -> dict[str, Path]:
    """Build the functions for this machine; return their folders by name."""
    artefacts = {OURS: build_ours(), PLAIN: build_plain(), PLAIN_COMPILED: WORK / "plain-pyc"}
    shutil.rmtree(artefacts[PLAIN_COMPILED], ignore_errors=True)
    shutil.copytree(artefacts[PLAIN], artefacts[PLAIN_COMPILED])
    run(
        *(PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
        artefacts[PLAIN_COMPILED],
    )
    # The modules of the runtime are compiled too: they are not part of the comparison.
    run(
        *(PYTHON, "-m", "compileall", "-q"),
        *(runtime_packages() / name for name in ("awslambdaric", "simplejson")),
    )
    return artefacts


def build_ours() -> Path:
    """Build the function of this pipeline with `sam build`; return its folder."""
    run(
        *(TOOLS / "sam" / "bin" / "sam", "build"),
        *("--template-file", REPOSITORY / "iac" / "template.yaml"),
        *("--build-dir", WORK / "build"),
    )
    return WORK / "build" / "ThumbnailFunction"


def build_plain() -> Path:
    """Build the usual handler with the same versions of the libraries, without .pyc files.

    `sam build` leaves them out too.
    """
    artefact = WORK / "plain"
    shutil.rmtree(artefact, ignore_errors=True)
    run(
        *(TOOLS / "uv" / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON),
        *("--target", artefact, "--only-binary", ":all:", "--link-mode", "copy"),
        *("--constraint", REPOSITORY / "requirements" / "dev.txt"),
        *("boto3", "pillow", "aws-lambda-powertools"),
    )
    shutil.copy(REPOSITORY / "bench" / "usual_handler" / "handler.py", artefact)
    return artefact


def check_bytecode(artefacts: dict[str, Path]) -> None:
    """Check the .pyc files of each function: none in PLAIN, up-to-date ones in the others.

    They must be unchecked hash-based ones, which Python loads without reading the source
    (https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation).

    Raises CommandError.
    """
    if stray := next(artefacts[PLAIN].rglob("*.pyc"), None):
        raise CommandError(f"{stray} should not exist")
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
                raise CommandError(f"{compiled} is missing, outdated or of another Python")


def run(*command: str | Path) -> None:
    """Run a tool. Raises CommandError with its output if it fails."""
    environment = sam_environment() | {"LAMBDA_ARCHITECTURE": architecture()}
    try:
        done = subprocess.run(  # noqa: S603 - our own tools
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise CommandError(f"{error.filename} is missing: run `make setup`") from error
    if done.returncode:
        raise CommandError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


# --- the report ---------------------------------------------------------------------------------
def report(
    results: list[Result],
    skipped: str | None,
    photo: Photo,
    rounds: int,
    built: dict[str, str],
) -> dict[str, Any]:
    """The results file: the results, and everything needed to judge and to repeat the run."""
    return {
        "what": "cold starts in fresh processes, emulated on one machine: compare only as ratios",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "memory_mb": MEMORY_MB,
        "photo": {"name": photo.name, "bytes": len(photo.data)}
        | {"width": photo.width, "height": photo.height},
        "machine": machine(),
        "load": load(),
        "versions": built,
        "skipped": skipped,
        "results": [asdict(result) for result in results],
    }


def versions(artefacts: dict[str, Path]) -> dict[str, str]:
    """The versions of the function, its libraries, Python and the runtime client."""
    libraries = {
        package.name.replace("_", "-"): package.version
        for path in (*artefacts.values(), runtime_packages())
        for package in importlib.metadata.distributions(path=[str(path)])
        if package.name.replace("_", "-") in LIBRARIES
    }
    return {"commit": commit(), "python": platform.python_version(), **libraries}


def runtime_packages() -> Path:
    """The folder of the packages of the Python that runs the functions."""
    return next(PYTHON.parents[1].glob("lib/python3.*/site-packages"))


def show(results: list[Result], skipped: str | None, photo: Photo, rounds: int) -> None:
    """Print the results as a table."""
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
    out.print(table)
    if skipped:
        out.print(f"Not measured at {LAMBDA_SHARE} CPU: {escape(skipped)}")


@app.command()
def cold_starts(
    rounds: Annotated[int, typer.Option(min=2, help="Number of starts of each function.")] = 11,
    *,
    as_json: Json = False,
) -> None:
    """Measure cold starts of this pipeline and of a typical thumbnail handler.

    Both are built for this machine and started in AWS's own runtime client: at full CPU and, with
    root on Linux, at 0.29 vCPU, the share of a function with 512 MB. The results are also written
    to bench/results/cold_start.json.

    **Examples**

    `python -m bench.cold_start`

    `python -m bench.cold_start --rounds 3 --json`
    """
    photo = photo_of(PHOTO_BYTES)
    with err.status("Building the functions"):
        artefacts = build()
    built = versions(artefacts)  # read first: the working tree may change during the run
    check_bytecode(artefacts)
    results, skipped = measure(rounds, artefacts, photo)
    with err.status("Measuring the parts of cold starts"):
        measured_parts = parts(PART_ROUNDS, artefacts, photo)
    check_bytecode(artefacts)  # no run has written any
    found = report(results, skipped, photo, rounds, built)
    found["parts"] = [asdict(each) for each in measured_parts]
    RESULTS.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
    else:
        show(results, skipped, photo, rounds)


if __name__ == "__main__":
    run_app(app)
