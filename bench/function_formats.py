"""Measures the function with both default widths in one, two and three formats.

As in bench.function, the built function is held to Lambda's CPU and memory, and S3 is moto. The
environments of all formats take turns, so that other load on the machine affects all of them.
"""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from bench.cold_start import LocalS3, build_ours, local_s3
from bench.function import (
    IMAGES,
    THROUGHPUT_MB,
    THROUGHPUT_SECONDS,
    WAITS,
    copies_of,
    count,
    emulator_of,
    invoke,
    process_one,
)
from bench.limits import LimitUnavailable
from bench.photos import PHOTO_BYTES, Photo, photo_of
from bench.record import RESULTS, circumstances
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.local.runtime_emulator import Invocation, RuntimeEmulator
from image_pipeline.stack import costs
from thumbnailer.imaging import OUTPUT_FORMATS

RESULT: Final = RESULTS / "function_formats.json"

TOGETHER: Final = tuple(OUTPUT_FORMATS[:number] for number in (1, 2, 3))
ALONE: Final = tuple((name,) for name in OUTPUT_FORMATS)

type Emulators = dict[tuple[str, ...], RuntimeEmulator]
type Track = Callable[..., Iterable[Any]]
"""`rich.progress.Progress.track`."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Event:
    """Warm events of the 1 MB photo with both default widths in `formats`; medians.

    Times are in ms. `cpu_ms` is the CPU time of the function's process. `requests` counts
    those to S3 by method, the same for every event. `dollars` is the total cost of IMAGES photos on
    arm64.
    """

    formats: str
    p50: float
    billed_ms: float
    cpu_ms: float
    peak_mb: int
    requests: dict[str, int]
    dollars: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Warm events with a delay of each response of S3; times in ms."""

    formats: str
    wait_ms: int
    p50: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per minute of one environment that works without a pause."""

    formats: str
    images_a_minute: float


def measure(
    artefact: Path, photo: Photo, s3: LocalS3, rounds: int
) -> tuple[list[Event], list[Waiting], list[Throughput]]:
    """Measure events, delays and throughput, each in turns. Raises CommandError."""
    with ExitStack() as stack:
        emulators = {
            formats: stack.enter_context(emulator_of(artefact, s3, formats))
            for formats in dict.fromkeys((*TOGETHER, *ALONE))
        }
        for formats, emulator in emulators.items():
            process_one(emulator, photo, s3, formats=formats)  # warm
        bar = stack.enter_context(progress_bar())
        events = _events(bar.track, emulators, photo, s3, rounds)
        waitings = _waitings(bar.track, emulators, photo, s3, rounds)
        uploads = copies_of(photo)
        s3.copy(photo, uploads)
        keys = cycle(uploads)
        counted = [
            Throughput(
                " + ".join(formats),
                round(count(emulators[formats], photo, keys) * 60 / THROUGHPUT_SECONDS),
            )
            for formats in bar.track(TOGETHER, description="Throughput")
        ]
    return events, waitings, counted


def _events(
    track: Track, emulators: Emulators, photo: Photo, s3: LocalS3, rounds: int
) -> list[Event]:
    found: dict[tuple[str, ...], list[tuple[Invocation, float]]] = {each: [] for each in emulators}
    requests: dict[tuple[str, ...], set[tuple[str, ...]]] = {each: set() for each in emulators}
    for _ in track(range(rounds), description="Events"):
        for formats, emulator in emulators.items():
            before = emulator.cpu_ms()
            s3.requests.clear()
            invocation = invoke(emulator, photo)
            requests[formats].add(tuple(sorted(s3.requests)))
            found[formats].append((invocation, emulator.cpu_ms() - before))
            s3.check_and_delete(photo, formats)
    return [_event(formats, runs, requests[formats]) for formats, runs in found.items()]


def _event(
    formats: tuple[str, ...],
    runs: list[tuple[Invocation, float]],
    requests: set[tuple[str, ...]],
) -> Event:
    (made,) = requests  # the same in every round
    counts = Counter(made)
    billed = statistics.median(run.billed_ms for run, _ in runs)
    rates = costs.Rates(THROUGHPUT_MB, "arm64", writes=counts["PUT"], duration_ms=billed)
    return Event(
        " + ".join(formats),
        round(statistics.median(run.duration_ms for run, _ in runs), 1),
        billed,
        round(statistics.median(cpu_ms for _, cpu_ms in runs), 1),
        max(run.max_memory_mb or 0 for run, _ in runs),
        dict(sorted(counts.items())),
        round(sum(costs.of_images(rates, IMAGES).values()), 4),
    )


def _waitings(
    track: Track, emulators: Emulators, photo: Photo, s3: LocalS3, rounds: int
) -> list[Waiting]:
    found: dict[tuple[tuple[str, ...], int], list[float]] = {
        (formats, wait): [] for formats in (OUTPUT_FORMATS[:1], OUTPUT_FORMATS) for wait in WAITS
    }
    for _ in track(range(rounds), description="Delays"):
        for (formats, wait), durations in found.items():
            done = process_one(emulators[formats], photo, s3, wait, formats)
            durations.append(done.duration_ms)
    return [
        Waiting(" + ".join(formats), wait, round(statistics.median(durations), 1))
        for (formats, wait), durations in found.items()
    ]


def one_decode(events: Sequence[Event]) -> dict[str, float]:
    """CPU time in ms of all formats together and of each alone, added up.

    `shared` is what happens once: reading, decoding and scaling, as the median event implies.
    """
    cpu = {each.formats: each.cpu_ms for each in events}
    together = cpu[" + ".join(OUTPUT_FORMATS)]
    added = sum(cpu[name] for name in OUTPUT_FORMATS)
    shared = (added - together) / (len(OUTPUT_FORMATS) - 1)
    return {"together": together, "added": round(added, 1), "shared": round(shared, 1)}


@app.command()
def function_formats(
    rounds: Annotated[int, typer.Option(min=2, help="Number of turns of each set of formats.")] = 7,
    *,
    as_json: Json = False,
) -> None:
    """Measure the built function with one, two and three formats, in about two minutes.

    Needs root on Linux, for cgroups. The results are also written to
    bench/results/function_formats.json.

    **Example**

    `python -m bench.function_formats --rounds 5`
    """
    photo = photo_of(PHOTO_BYTES)
    try:
        with local_s3(photo) as s3:
            events, waitings, counted = measure(build_ours(), photo, s3, rounds)
    except LimitUnavailable as error:
        raise CommandError(
            f"Cannot limit CPU and memory: {error}. Run as root on Linux."
        ) from error
    found = {
        "what": "the function with several formats, emulated on one machine; S3 is moto",
        **circumstances(),
        "rounds": rounds,
        "memory_mb": THROUGHPUT_MB,
        "photo": {"name": photo.name, "bytes": len(photo.data)},
        "events": [asdict(each) for each in events],
        "one_decode": one_decode(events),
        "waiting": [asdict(each) for each in waitings],
        "throughput": [asdict(each) for each in counted],
    }
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
        return
    table = Table("formats", "p50", "billed", "CPU ms", "peak MB", "requests", "$ for 10,000")
    for each in events:
        table.add_row(
            *(each.formats, f"{each.p50:.0f}", f"{each.billed_ms:.0f}", f"{each.cpu_ms:.0f}"),
            *(str(each.peak_mb), str(each.requests), f"{each.dollars:.4f}"),
        )
    out.print(table)
    out.print(one_decode(events))
    table = Table("formats", "S3 delay, ms", "p50")
    for slow in waitings:
        table.add_row(slow.formats, str(slow.wait_ms), f"{slow.p50:.0f}")
    out.print(table)
    table = Table("formats", "images per minute")
    for row in counted:
        table.add_row(row.formats, f"{row.images_a_minute:,.0f}")
    out.print(table)


if __name__ == "__main__":
    run_app(app)
