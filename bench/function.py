"""Measures the function at Lambda's CPU and memory: latency, memory, images per minute, cost.

The built function runs in AWS's own runtime client under image_pipeline.local.runtime_emulator.
Cgroups limit it to the CPU and memory of a Lambda size; S3 is moto on loopback, without limits. So
S3 responds faster than in AWS, and the CPU is this machine's: the results are emulated.
"""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from bench.cold_start import SETTINGS, LocalS3, build_ours, event_of, local_s3
from bench.limits import LimitUnavailable, limited
from bench.photos import Photo, photo_of
from bench.record import RESULTS, Spread, circumstances
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.local.runtime_emulator import Invocation, RuntimeEmulator
from image_pipeline.stack import costs
from image_pipeline.stack.costs import Rates
from thumbnailer.imaging import FULL_CPU_MB
from thumbnailer.settings import DEFAULT_FORMATS

RESULT: Final = RESULTS / "function.json"

MEMORIES: Final = (512, 1024, FULL_CPU_MB)
"""Memory sizes in MB; the last one has one vCPU."""

SIZES: Final = {"1 MB": 1_000_000, "4 MB": 4_000_000}
"""Name → approximate bytes of the JPEGs."""

WARM_EVENTS: Final = 12
"""Warm events of each environment."""

ENVIRONMENTS: Final = (1, 2, 4)
"""Numbers of concurrent environments whose throughput is measured."""

THROUGHPUT_MB: Final = 512
"""Memory of each of them, the default of LambdaMemorySize."""

THROUGHPUT_SECONDS: Final = 15.0
"""Time for which images are counted."""

PROMISED_ENVIRONMENTS: Final = 10
"""Environments of the target for images per minute: the concurrency of new AWS accounts."""

IMAGES: Final = 10_000
"""Images of the cost estimate."""

WAITS: Final = (0, 20, 50, 100)
"""Milliseconds by which S3 delays each response. On loopback there is no delay; in AWS it is some
tens of milliseconds, or 100 to 200
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html)."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Latency:
    """One photo at one memory size. Times are in ms; `p50` and `p95` are of warm events."""

    memory_mb: int
    photo: str
    init_ms: Spread
    cold_ms: Spread
    """The first event of an environment, without its init."""
    p50: float
    p95: float
    billed_ms: float
    """Median billed time of warm events."""
    peak_mb: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Warm events of the 1 MB photo with a delay of each response of S3; times in ms."""

    wait_ms: int
    p50: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per minute of several environments with THROUGHPUT_MB, which work without a pause."""

    environments: int
    images_a_minute: float
    each: float
    """Images per minute of one environment."""


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars for IMAGES photos of about 1 MB.

    `function` is the cost of Lambda; `total` includes the requests to S3 and SQS.
    """

    memory_mb: int
    architecture: str
    billed_ms: float
    function: float
    total: float


def latencies(artefact: Path, rounds: int, photos: dict[str, Photo], s3: LocalS3) -> list[Latency]:
    """Start an environment of each memory size for each photo, in turns, and send it events."""
    found: dict[tuple[int, str], list[list[Invocation]]] = {
        (memory, name): [] for memory in MEMORIES for name in photos
    }
    with ExitStack() as stack:
        commands = {
            memory: stack.enter_context(limited(cpu=memory / FULL_CPU_MB, memory_mb=memory))
            for memory in MEMORIES
        }
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("Environments", total=(rounds + 1) * len(found))
        for number in range(rounds + 1):
            for (memory, name), runs in found.items():
                environment = {**SETTINGS, "AWS_ENDPOINT_URL": s3.endpoint}
                with RuntimeEmulator(
                    artefact, environment, memory_mb=memory, command=commands[memory]
                ) as emulator:
                    events = [
                        process_one(emulator, photos[name], s3) for _ in range(WARM_EVENTS + 1)
                    ]
                if number > 0:  # the first round only fills the disk cache
                    runs.append(events)
                progress.advance(task)
    return [_latency(memory, name, runs) for (memory, name), runs in found.items()]


def process_one(
    emulator: RuntimeEmulator,
    photo: Photo,
    s3: LocalS3,
    wait_ms: int = 0,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> Invocation:
    """Process one upload while S3 delays each response; check and delete its thumbnails.

    `formats` are those of the emulator's function, see `emulator_of`.

    Raises CommandError if the function fails or a thumbnail is wrong.
    """
    s3.wait_s = wait_ms / 1000
    invocation = invoke(emulator, photo)
    s3.wait_s = 0.0
    s3.check_and_delete(photo, formats)
    return invocation


def invoke(emulator: RuntimeEmulator, photo: Photo) -> Invocation:
    """Send the event of an upload. Raises CommandError if the function fails."""
    invocation = emulator.invoke(event_of(photo))
    if invocation.error:
        raise CommandError(f"{invocation.error.type}: {invocation.error.message}")
    return invocation


def _latency(memory: int, name: str, runs: Sequence[Sequence[Invocation]]) -> Latency:
    warm = [each for run in runs for each in run[1:]]
    durations = statistics.quantiles([each.duration_ms for each in warm], n=100, method="inclusive")
    return Latency(
        memory,
        name,
        Spread.of([run[0].init_ms or 0.0 for run in runs]),
        Spread.of([run[0].duration_ms for run in runs]),
        round(durations[49], 1),
        round(durations[94], 1),
        statistics.median(each.billed_ms for each in warm),
        max(each.max_memory_mb or 0 for run in runs for each in run),
    )


def waitings(artefact: Path, photo: Photo, s3: LocalS3) -> list[Waiting]:
    """Measure one warm environment with each of WAITS, in turns."""
    found: dict[int, list[float]] = {wait: [] for wait in WAITS}
    with emulator_of(artefact, s3) as emulator:
        process_one(emulator, photo, s3)
        for _ in range(WARM_EVENTS):
            for wait, durations in found.items():
                durations.append(process_one(emulator, photo, s3, wait).duration_ms)
    return [
        Waiting(wait, round(statistics.median(durations), 1)) for wait, durations in found.items()
    ]


def throughput(artefact: Path, photo: Photo, s3: LocalS3) -> list[Throughput]:
    """Keep each number of ENVIRONMENTS busy, and count their images."""
    uploads = cycle(copies_of(photo))
    found = []
    for number in ENVIRONMENTS:
        with ExitStack() as stack:
            emulators = [stack.enter_context(emulator_of(artefact, s3)) for _ in range(number)]
            for emulator in emulators:
                emulator.invoke(event_of(photo))  # warm
            with ThreadPoolExecutor(number) as pool:
                counts = list(pool.map(lambda each: count(each, photo, uploads), emulators))
        rate = sum(counts) * 60 / THROUGHPUT_SECONDS
        found.append(Throughput(number, round(rate), round(rate / number)))
    s3.check_and_delete(photo)
    return found


@contextmanager
def emulator_of(
    artefact: Path, s3: LocalS3, formats: Sequence[str] = DEFAULT_FORMATS
) -> Iterator[RuntimeEmulator]:
    """Start an environment with THROUGHPUT_MB, whose function makes thumbnails in `formats`."""
    environment = {
        **SETTINGS,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "THUMB_FORMATS": ",".join(formats),
    }
    with (
        limited(cpu=THROUGHPUT_MB / FULL_CPU_MB, memory_mb=THROUGHPUT_MB) as command,
        RuntimeEmulator(
            artefact, environment, memory_mb=THROUGHPUT_MB, command=command
        ) as emulator,
    ):
        yield emulator


def count(emulator: RuntimeEmulator, photo: Photo, keys: Iterator[str]) -> float:
    """Send a warm environment the photo under one key after another, without a pause.

    Count the images processed within THROUGHPUT_SECONDS, the last one in part.
    """
    began = time.monotonic()
    number = 0
    while (passed := time.monotonic() - began) < THROUGHPUT_SECONDS:
        emulator.invoke(event_of(photo, as_key=next(keys)))
        number += 1
    return number * THROUGHPUT_SECONDS / passed


COPIES: Final = 1000
"""Uploads for the throughput: more than are processed in the time, because an upload that has its
thumbnails already needs other requests."""


def copies_of(photo: Photo) -> list[str]:
    """COPIES different keys for the same photo."""
    stem, _, ending = photo.key.rpartition(".")
    return [f"{stem}-{number}.{ending}" for number in range(COPIES)]


def costs_of(measured: Sequence[Latency]) -> list[Cost]:
    """Estimate the cost of IMAGES at each memory size and architecture, for the 1 MB photo."""
    found = []
    for each in measured:
        if each.photo != next(iter(SIZES)):
            continue
        for architecture in ("arm64", "x86_64"):
            rates = Rates(each.memory_mb, architecture, writes=2, duration_ms=each.billed_ms)
            parts = costs.of_images(rates, IMAGES)
            function = sum(dollars for name, dollars in parts.items() if name.startswith("Lambda"))
            found.append(
                Cost(
                    each.memory_mb,
                    architecture,
                    each.billed_ms,
                    round(function, 4),
                    round(sum(parts.values()), 4),
                )
            )
    return found


@app.command()
def function(
    rounds: Annotated[
        int, typer.Option(min=2, help="Number of environments per memory size and photo.")
    ] = 3,
    *,
    as_json: Json = False,
) -> None:
    """Measure the built function at Lambda's CPU and memory, in two to three minutes.

    Needs root on Linux, for cgroups. The results are also written to bench/results/function.json.

    **Examples**

    `python -m bench.function`

    `python -m bench.function --rounds 2 --json`
    """
    photos = {name: photo_of(size) for name, size in SIZES.items()}
    first = next(iter(photos.values()))
    try:
        with local_s3(*photos.values()) as s3:
            artefact = build_ours()
            measured = latencies(artefact, rounds, photos, s3)
            waited = waitings(artefact, first, s3)
            s3.copy(first, copies_of(first))
            counted = throughput(artefact, first, s3)
    except LimitUnavailable as error:
        raise CommandError(
            f"Cannot limit CPU and memory: {error}. Run as root on Linux."
        ) from error
    priced = costs_of(measured)
    cheapest = min(priced, key=lambda each: each.total)
    found = {
        "what": "the function held to Lambda's CPU and memory, emulated on one machine; S3 is moto",
        **circumstances(),
        "rounds": rounds,
        "photos": {
            name: {"name": each.name, "bytes": len(each.data), "width": each.width}
            | {"height": each.height}
            for name, each in photos.items()
        },
        "prices": {name: costs.PRICES[name] for name in ("as_of", "region")},
        "latencies": [asdict(each) for each in measured],
        "waiting": [asdict(each) for each in waited],
        "throughput": [asdict(each) for each in counted],
        "at_concurrency_10": round(counted[0].images_a_minute * PROMISED_ENVIRONMENTS),
        "costs": [asdict(each) for each in priced],
        "cheapest": asdict(cheapest),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
    else:
        show(measured, waited, counted, priced)


def show(
    measured: Sequence[Latency],
    waited: Sequence[Waiting],
    counted: Sequence[Throughput],
    priced: Sequence[Cost],
) -> None:
    """Print the results as four tables."""
    table = Table(
        "MB", "photo", "init", "first", "p50", "p95", "billed", "peak MB", title="Latency (ms)"
    )
    for each in measured:
        table.add_row(
            *(str(each.memory_mb), each.photo, f"{each.init_ms.median:.0f}"),
            *(f"{each.cold_ms.median:.0f}", f"{each.p50:.0f}", f"{each.p95:.0f}"),
            *(f"{each.billed_ms:.0f}", str(each.peak_mb)),
        )
    out.print(table)
    table = Table("S3 delay, ms", "p50", title=f"{THROUGHPUT_MB} MB, 1 MB photo")
    for slow in waited:
        table.add_row(str(slow.wait_ms), f"{slow.p50:.0f}")
    out.print(table)
    table = Table("environments", "images per minute", "each")
    for row in counted:
        table.add_row(str(row.environments), f"{row.images_a_minute:,.0f}", f"{row.each:,.0f}")
    out.print(table)
    table = Table(
        *("MB", "architecture", "billed ms", "Lambda $", "total $"),
        title=f"Cost of {IMAGES:,} images",
    )
    for cost in priced:
        table.add_row(
            *(str(cost.memory_mb), cost.architecture, f"{cost.billed_ms:.0f}"),
            *(f"{cost.function:.4f}", f"{cost.total:.4f}"),
        )
    out.print(table)


if __name__ == "__main__":
    run_app(app)
