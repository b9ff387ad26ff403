"""Compares the function's image code with other engines: CPU, wall time, memory, bytes, quality.

Each engine runs in a separate process, all on the same core, and the engines take turns at each
image, so that other load on the machine affects all of them. Compare within a run, as ratios.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Annotated, Any, Final, Self

import typer
from PIL import Image, features
from rich.progress import Progress
from rich.table import Table

from bench.engine_inputs import (
    FLOOR,
    OURS,
    PER_SIZE,
    PYVIPS,
    SHARP_CHAIN,
    SHARP_PER_SIZE,
    Case,
    cases,
    large,
    reference,
)
from bench.engine_report import markdown
from bench.engine_targets import engine_targets
from bench.record import REPOSITORY, RESULTS, Spread, commit, load, machine
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.local.tools import TOOLS

RESULT: Final = RESULTS / "engine.json"
DOCS: Final = REPOSITORY / "docs" / "performance"

WIDTHS: Final = (128, 512)
"""Of the thumbnails in pixels, the default of ThumbnailSizes."""

QUALITY: Final = 85
"""The default of WebPQuality."""

SHARP: Final = TOOLS / "sharp"
BENCH_PYTHON: Final = TOOLS / "bench" / "bin" / "python"
PYTHON_WORKER: Final = REPOSITORY / "bench" / "engine_worker.py"
SHARP_WORKER: Final = REPOSITORY / "bench" / "engine_worker.mjs"

ENGINES: Final[dict[str, tuple[str | Path, ...]]] = {
    OURS: (sys.executable, PYTHON_WORKER, "ours"),
    PER_SIZE: (sys.executable, PYTHON_WORKER, "pillow-per-size"),
    "Pillow, thumbnail() per size": (sys.executable, PYTHON_WORKER, "pillow-thumbnail"),
    "Pillow, one decode": (sys.executable, PYTHON_WORKER, "pillow-one-decode"),
    SHARP_PER_SIZE: (SHARP / "node", SHARP_WORKER, "per-size", SHARP),
    SHARP_CHAIN: (SHARP / "node", SHARP_WORKER, "chain", SHARP),
    PYVIPS: (BENCH_PYTHON, PYTHON_WORKER, "pyvips-chain"),
    FLOOR: (sys.executable, PYTHON_WORKER, "floor"),
}
"""Name → the command that starts its worker process."""

MEMORY_ENGINES: Final = (OURS, SHARP_CHAIN, PYVIPS)
"""Engines whose memory is measured at large images."""

MEMORY_ROUNDS: Final = 3

LIBRARIES: Final = ("numpy", "pillow", "pillow-heif", "pyvips", "pyvips-binary", "ssimulacra2")
"""Packages of BENCH_PYTHON whose versions the results file records."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Result:
    """One engine at one kind of image: means over its files, spreads over the rounds.

    `encode_ms` is the median of the CPU time that the encoder takes, where it is known.
    `first_cpu_ms` is the CPU time of the first image of a fresh process, and `peak_mb` the peak
    memory of that process. `bytes` is the size of all thumbnails, `score` the SSIMULACRA 2 of the
    largest one.
    """

    case: str
    engine: str
    cpu_ms: Spread
    wall_ms: Spread
    encode_ms: float | None
    first_cpu_ms: float
    peak_mb: float
    bytes: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak memory of a fresh process with one engine and image, in MB: a spread over the rounds.

    `start_mb` is the peak before decoding: the program, its libraries and the file.
    """

    case: str
    engine: str
    peak_mb: Spread
    start_mb: float


type Times = tuple[float, float, float]
"""CPU time, wall time and the encoder's part of the CPU time, in ms."""


class Worker:
    """A process that makes thumbnails with one engine, image by image."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._stderr = TemporaryFile("w+")  # noqa: SIM115 - __exit__ closes it
        command = ENGINES[engine]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own workers
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
            )
        except FileNotFoundError as error:
            raise CommandError(
                f"{error.filename} is missing: run `make bench-engine`, which installs it"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def make(self, path: Path, output: Path | None = None) -> dict[str, Any]:
        """Make the thumbnails of one image; return the worker's response (see engine_worker.py).

        The thumbnails are saved in the folder `output`, if given. Raises CommandError if the
        process ends.
        """
        assert self._process.stdin  # noqa: S101 - PIPE, see __init__
        assert self._process.stdout  # noqa: S101
        request = {"path": str(path), "widths": WIDTHS, "quality": QUALITY}
        request["output"] = None if output is None else str(output)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._stderr.seek(0)
            raise CommandError(
                f"The worker of {self._engine} ended at {path.name}:\n{self._stderr.read()}"
            )
        response: dict[str, Any] = json.loads(line)
        return response


@contextmanager
def on_one_core() -> Iterator[None]:
    """Restrict this process, and those that it starts, to one core; only on Linux."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def first_runs(
    case: Case, engines: Sequence[str], folder: Path, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Run each engine in a fresh process, once for each file; save the thumbnails in `folder`."""
    found: dict[str, list[dict[str, Any]]] = {}
    task = progress.add_task(f"First: {case.name}", total=len(engines))
    for engine in engines:
        with Worker(engine) as worker:
            for at, path in enumerate(case.files):
                output = thumbnails_of(folder, case, engine, at)
                output.mkdir(parents=True)
                found.setdefault(engine, []).append(worker.make(path, output))
        progress.advance(task)
    progress.remove_task(task)
    return found


def thumbnails_of(folder: Path, case: Case, engine: str, at: int) -> Path:
    """The folder of an engine's thumbnails of file number `at` of a case."""
    return folder / case.name.replace("/", "-") / engine / str(at)


def rounds_of(
    case: Case, workers: dict[str, Worker], rounds: int, progress: Progress
) -> dict[str, list[Times]]:
    """(CPU, wall, encoder) in ms of each engine in each round, means over the files.

    Engines take turns. The encoder's time is 0 where it is not known.
    """
    found: dict[str, list[Times]] = {engine: [] for engine in workers}
    task = progress.add_task(f"Measuring: {case.name}", total=rounds + 1)
    for number in range(rounds + 1):
        responses: dict[str, list[dict[str, Any]]] = {engine: [] for engine in workers}
        for path in case.files:
            for engine, worker in workers.items():
                responses[engine].append(worker.make(path))
        if number > 0:  # the first round is a warm-up
            for engine, measured in responses.items():
                cpu, wall, encoder = (
                    statistics.mean(each[what] or 0.0 for each in measured)
                    for what in ("cpu_ms", "wall_ms", "encode_ms")
                )
                found[engine].append((cpu, wall, encoder))
        progress.advance(task)
    progress.remove_task(task)
    return found


def run_in_bench(program: str, asked: object, failed: str) -> str:
    """Run a program of this folder with BENCH_PYTHON; return what it prints.

    It reads `asked` as JSON. Raises CommandError, which begins with `failed`, if it fails.
    """
    ran = subprocess.run(  # noqa: S603 - our own program
        [BENCH_PYTHON, REPOSITORY / "bench" / program],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise CommandError(f"{failed}\n{ran.stderr}")
    return ran.stdout


def scores(
    found: dict[tuple[str, str], list[dict[str, Any]]], every: Sequence[Case], folder: Path
) -> dict[tuple[str, str], float | None]:
    """SSIMULACRA 2 of the largest thumbnail by (case, engine), means over the files.

    None where the size of a thumbnail is not that of the reference. Raises CommandError.
    """
    pairs: list[tuple[str, str]] = []
    owners: list[tuple[str, str]] = []
    for case in every:
        for at, path in enumerate(case.files):
            target = folder / case.name.replace("/", "-") / f"{at}.png"
            reference(path, max(WIDTHS)).save(target)
            for engine in ENGINES:
                if engine != FLOOR and (case.name, engine) in found:
                    picture = thumbnails_of(folder, case, engine, at) / f"{max(WIDTHS)}.webp"
                    pairs.append((str(target), str(picture)))
                    owners.append((case.name, engine))
    scored = run_in_bench("engine_score.py", pairs, "Scoring failed:")
    by_owner: dict[tuple[str, str], list[float | None]] = {}
    for owner, score in zip(owners, json.loads(scored), strict=True):
        by_owner.setdefault(owner, []).append(score)
    return {owner: _mean(each) for owner, each in by_owner.items()}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.mean(known), 1) if len(known) == len(values) else None


def measure(
    every: Sequence[Case], engines: Sequence[str], rounds: int
) -> tuple[list[Result], dict[str, dict[str, str]]]:
    """Measure all engines at all kinds of image.

    The second value has, by kind and engine, why an engine cannot read the images.
    """
    cannot: dict[str, dict[str, str]] = {}
    first: dict[tuple[str, str], list[dict[str, Any]]] = {}
    timed: dict[tuple[str, str], list[Times]] = {}
    with (
        TemporaryDirectory() as made,
        progress_bar() as progress,
    ):
        task = progress.add_task("Kinds of image", total=len(every) + 1)
        for case in every:
            with on_one_core(), ExitStack() as stack:
                runs = first_runs(case, engines, Path(made), progress)
                able = []
                for engine, responses in runs.items():
                    if error := next((e["error"] for e in responses if "error" in e), None):
                        cannot.setdefault(case.name, {})[engine] = error
                    else:
                        able.append(engine)
                        first[case.name, engine] = responses
                workers = {engine: stack.enter_context(Worker(engine)) for engine in able}
                for engine, times in rounds_of(case, workers, rounds, progress).items():
                    timed[case.name, engine] = times
            progress.advance(task)
        progress.update(task, description="Scoring")
        scored = scores(first, every, Path(made))
    results = [
        Result(
            case=case,
            engine=engine,
            cpu_ms=Spread.of([cpu for cpu, _, _ in times]),
            wall_ms=Spread.of([wall for _, wall, _ in times]),
            encode_ms=round(statistics.median(each for *_, each in times), 1) or None,
            first_cpu_ms=round(first[case, engine][0]["cpu_ms"], 1),
            peak_mb=round(first[case, engine][0]["peak_mb"], 1),
            bytes=round(statistics.mean(sum(each["bytes"]) for each in first[case, engine])),
            score=scored.get((case, engine)),
        )
        for (case, engine), times in timed.items()
    ]
    return results, cannot


def measure_memory(every: Sequence[Case], rounds: int) -> list[Peak]:
    """Measure the peak memory of a fresh process at each large image, of all engines in turns."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with progress_bar() as progress, on_one_core():
        task = progress.add_task("Memory", total=len(every) * rounds * len(MEMORY_ENGINES))
        for case in every:
            for _ in range(rounds):
                for engine in MEMORY_ENGINES:
                    with Worker(engine) as worker:
                        found.setdefault((case.name, engine), []).append(worker.make(case.files[0]))
                    progress.advance(task)
    return [
        Peak(
            case,
            engine,
            Spread.of([each["peak_mb"] for each in runs]),
            round(statistics.median(each["start_mb"] for each in runs), 1),
        )
        for (case, engine), runs in found.items()
        if not any("error" in each for each in runs)
    ]


def versions() -> dict[str, str]:
    """The versions of all engines and of the libraries that do most of their work.

    Raises CommandError if sharp is not installed.
    """
    found = {
        package.name: package.version
        for path in BENCH_PYTHON.parents[1].glob("lib/python3.*/site-packages")
        for package in importlib.metadata.distributions(path=[str(path)])
        if package.name in LIBRARIES
    }
    program = "console.log(JSON.stringify({node: process.version, ...require('sharp').versions}))"
    try:
        ran = subprocess.run(  # noqa: S603 - our own node
            [SHARP / "node", "-e", program], cwd=SHARP, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandError(
            "sharp is missing: run `make bench-engine`, which installs it"
        ) from error
    node: dict[str, str] = json.loads(ran.stdout)
    codecs = {
        f"pillow's {name}": features.version(name) or "?"
        for name in ("libjpeg_turbo", "webp", "zlib", "avif")
    }
    sharps = {f"sharp's {name}": node[name] for name in ("vips", "webp", "mozjpeg", "zlib-ng")}
    return {
        "commit": commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("pillow", "isal")},
        **codecs,
        "sharp": node["sharp"],
        "node": node["node"].removeprefix("v"),
        **sharps,
        **{name: version for name, version in sorted(found.items()) if name != "pillow"},
    }


def show(found: dict[str, Any]) -> None:
    """Print the results as tables."""
    for case in found["cases"]:
        name = case["case"]
        table = Table(title=f"{name} · {case['source']}", title_justify="left")
        for heading in ("engine", "CPU ms", "wall ms", "× ours", "peak MB", "bytes", "score"):
            table.add_column(heading, justify="left" if heading == "engine" else "right")
        rows = [each for each in found["results"] if each["case"] == name]
        ours = next((each["cpu_ms"]["median"] for each in rows if each["engine"] == OURS), None)
        for row in rows:
            cpu, wall = row["cpu_ms"], row["wall_ms"]
            table.add_row(
                row["engine"],
                f"{cpu['median']:.1f} [dim]{cpu['q1']:.1f}–{cpu['q3']:.1f}[/]",
                f"{wall['median']:.1f}",
                f"{cpu['median'] / ours:.2f}" if ours else "",
                f"{row['peak_mb']:.0f}",
                f"{row['bytes']:,}",
                "" if row["score"] is None else f"{row['score']:.1f}",
            )
        for engine in case["cannot"]:
            table.add_row(engine, "[dim]cannot[/]")
        out.print(table)
    table = Table("target", "bound", "measured", "")
    for target in found["targets"]:
        verdict = "met" if target["met"] else "[bold red]missed[/]"
        table.add_row(target["what"], target["bound"], target["measured"], verdict)
    out.print(table)


@app.command()
def engine(
    rounds: Annotated[
        int, typer.Option(min=2, help="Number of turns of each engine at each image.")
    ] = 5,
    kind: Annotated[
        list[str] | None, typer.Option(help="Measure only kinds of image whose name contains this.")
    ] = None,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine", help="Measure only this pipeline and engines whose name contains this."
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Compare the function's image code with other engines on one core, in turns.

    The images are JPEGs of several sizes, a progressive JPEG, PNGs with and without alpha, WebP,
    TIFF, AVIF and HEIC, and, for their memory, a JPEG of 100 and a PNG of 50 megapixels. They are
    made from the photos in the folder that the variable PHOTOS names, or drawn if there are none,
    and kept in .local/bench. The results of a complete run are written to bench/results/engine.json
    and docs/performance.

    **Examples**

    `PHOTOS=~/Pictures/holiday python -m bench.engine`

    `python -m bench.engine --rounds 15 --kind "JPEG, 12" --engine sharp --json`
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    measured = versions()  # read first: the working tree may change during the run
    with err.status("Drawing images") as status:

        def show_drawing(what: str) -> None:
            status.update(f"Drawing images: {what}")

        drawn = cases(show_drawing)
        every = [case for case in drawn if not kind or any(each in case.name for each in kind)]
        large_ones = list(large(show_drawing)) if not kind and not engines else []
    chosen = [
        name
        for name in ENGINES
        if not engines or name == OURS or any(each in name for each in engines)
    ]
    if not every:
        raise CommandError(f"No kind of image has a name with {', '.join(kind or [])}.")
    before = load()
    results, cannot = measure(every, chosen, rounds)
    complete = not kind and not engines
    peaks = measure_memory(large_ones, MEMORY_ROUNDS) if complete else []
    found: dict[str, Any] = {
        "what": "image engines on one core in turns, one machine: compare only as ratios",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "widths": WIDTHS,
        "quality": QUALITY,
        "machine": machine(),
        "load": [before, load()],
        "versions": measured,
        "cases": [
            {
                "case": case.name,
                "source": case.source,
                "bytes": [path.stat().st_size for path in case.files],
                "cannot": cannot.get(case.name, {}),
            }
            for case in every
        ],
        "results": [asdict(result) for result in results],
        "memory": [asdict(peak) for peak in peaks],
    }
    found["targets"] = [asdict(target) for target in engine_targets(found)]
    if complete:
        RESULT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / "engine.md").write_text(markdown(found))
    if as_json:
        print_json(found)
    else:
        show(found)


if __name__ == "__main__":
    run_app(app)
