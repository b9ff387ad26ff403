"""Measures `image-pipeline thumbs` beside the image code alone and other tools, and its memory.

    python -m bench.thumbs FOLDER          (or make bench-thumbs PHOTOS=FOLDER)

- The image code alone (here: the engine) in one process, which shows what folders, processes and
  files cost.
- `vipsthumbnail` and sharp-cli at equal quality: theirs is raised until their thumbnails score as
  much as those of `thumbs` (SSIMULACRA 2).
- The memory of the parent process with 2,000 and with 20,000 files.

The tools take turns. Their CPU time is that of all their processes, measured by the kernel: that of
`thumbs` contains the start of Python and of the workers, which is measured alone too, with one tiny
picture. Python keeps compiled modules, as it does for users by default. It needs Linux.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from PIL import Image
from rich.table import Table

from bench.engine import SHARP, run_in_bench
from bench.engine_inputs import reference
from bench.photos import PHOTOS
from bench.record import RESULTS, commit, load, machine
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from thumbnailer.imaging import make_thumbnails
from thumbnailer.settings import Settings

RESULT: Final = RESULTS / "thumbs.json"
SETTINGS: Final = Settings(output_bucket="", dead_letter_queue_url="")
COMMAND: Final = Path(sys.executable).parent / "image-pipeline"
OURS, VIPS, SHARP_CLI, ENGINE = "image-pipeline thumbs", "vipsthumbnail", "sharp-cli", "image code"
WIDTHS: Final = (128, 512)
METHOD: Final = 4
"""Effort of the WebP encoder, the default of all three."""

MAX_QUALITY: Final = 100
FILES: Final = (2_000, 20_000)
POLL_SECONDS: Final = 0.05
SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER: orphans become children of this process, so their CPU time is counted
(https://man7.org/linux/man-pages/man2/prctl.2.html)."""

ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""Of the tools. With that variable, each start of `thumbs` could compile all modules again."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds for each picture: CPU time of all processes, and wall time."""

    cpu_ms: float
    wall_ms: float


type Commands = Callable[[Path, Path, Sequence[int], int], list[list[list[str]]]]
"""(folder of photos, output folder, widths, quality) → steps, each of commands run side by side."""


def ours(photos: Path, made: Path, widths: Sequence[int], quality: int) -> list[list[list[str]]]:
    """One command makes all widths."""
    words = ("--sizes", ",".join(map(str, widths)), "--quality", str(quality))
    return [[[str(COMMAND), "thumbs", str(photos), "--out", str(made), *words]]]


def vips(photos: Path, made: Path, widths: Sequence[int], quality: int) -> list[list[list[str]]]:
    """A command makes one width, in one thread: as many as there are cores, side by side."""
    files = sorted(map(str, photos.iterdir()))
    parts = list(batched(files, -(-len(files) // cores()), strict=False))
    program = (VIPS, "--vips-concurrency=1", "--export-profile=srgb")
    form = f"[Q={quality},effort={METHOD},strip]"
    return [
        [
            [*program, f"--size={width}x", "-o", f"{made}/%s_{width}w.webp{form}", *part]
            for part in parts
        ]
        for width in widths
    ]


def sharp_cli(
    photos: Path, made: Path, widths: Sequence[int], quality: int
) -> list[list[list[str]]]:
    """A command makes one width, and uses all cores itself."""
    program = (str(SHARP / "node"), str(SHARP / "node_modules" / ".bin" / "sharp"), "-i")
    encoder = ("-f", "webp", "-q", str(quality), "--effort", str(METHOD))
    words = (*encoder, "--autoOrient", "resize")
    files = sorted(map(str, photos.iterdir()))
    return [
        [[*program, *files, "-o", f"{made}/{{name}}_{width}w.webp", *words, str(width)]]
        for width in widths
    ]


TOOLS: Final[dict[str, Commands]] = {OURS: ours, VIPS: vips, SHARP_CLI: sharp_cli}


def cores() -> int:
    """Count the cores that this process may use."""
    return os.process_cpu_count() or 1


def run(steps: list[list[list[str]]], pictures: int) -> Cost:
    """Run a tool. Raises CommandError if it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for step in steps:
        running = [
            subprocess.Popen(  # noqa: S603 - our own commands
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
            for command in step
        ]
        for process in running:
            _, errors = process.communicate()
            if process.returncode:
                raise CommandError(f"{process.args!r:.300} failed: {errors[-500:]}")
    wall = time.monotonic() - began
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu * 1000 / pictures, wall * 1000 / pictures)


def engine(photos: Path) -> Cost:
    """Run the image code in this process, the reading of files included."""
    files = sorted(photos.iterdir())
    wall, cpu = time.perf_counter(), time.process_time()
    for photo in files:
        make_thumbnails(photo.read_bytes(), SETTINGS.specs, 512)
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(*(each * 1000 / len(files) for each in spent))


def score(tool: str, photos: Path, quality: int, references: Path) -> tuple[float, int]:
    """Mean SSIMULACRA 2 of a tool's largest thumbnails at a quality, and their mean bytes."""
    with TemporaryDirectory() as folder:
        made = Path(folder)
        run(TOOLS[tool](photos, made, WIDTHS[-1:], quality), 1)
        files = {path.name: path for path in made.rglob("*.webp")}
        pairs = [
            (str(each), str(files[f"{each.stem}_{WIDTHS[-1]}w.webp"]))
            for each in sorted(references.iterdir())
        ]
        found = json.loads(run_in_bench("engine_score.py", pairs, "Scoring failed:"))
        size = statistics.mean(Path(path).stat().st_size for _, path in pairs)
        return statistics.mean(found), round(size)


def equal_quality(photos: Path) -> dict[str, tuple[int, float, int]]:
    """Return quality, score and bytes of each tool, where it scores as much as `thumbs`."""
    with TemporaryDirectory() as folder:
        for photo in photos.iterdir():
            reference(photo, WIDTHS[-1]).save(Path(folder) / f"{photo.stem}.png", compress_level=1)
        goal = score(OURS, photos, SETTINGS.quality, Path(folder))
        found = {OURS: (SETTINGS.quality, *goal)}
        for tool in (VIPS, SHARP_CLI):
            low, high = SETTINGS.quality, MAX_QUALITY
            while low < high:
                middle = (low + high) // 2
                if score(tool, photos, middle, Path(folder))[0] >= goal[0]:
                    high = middle
                else:
                    low = middle + 1
            found[tool] = (low, *score(tool, photos, low, Path(folder)))
    return found


def peak_mb(files: int) -> float:
    """Peak memory of the parent process with that number of tiny files, and with --json."""
    with TemporaryDirectory() as folder:
        album = Path(folder) / "album"
        album.mkdir()
        first = album / "0.jpg"
        Image.new("RGB", (16, 16), (9, 9, 200)).save(first)
        for index in range(1, files):
            os.link(first, album / f"{index}.jpg")
        words = ["thumbs", album, "--out", f"{folder}/out", "--sizes", "8", "--json"]
        with subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, *map(str, words)], stdout=subprocess.DEVNULL
        ) as process:
            peak = 0
            while process.poll() is None:
                status = Path(f"/proc/{process.pid}/status").read_text()
                if found := re.search(r"VmHWM:\s*(\d+)", status):  # none while it ends
                    peak = int(found[1])
                time.sleep(POLL_SECONDS)
        if process.returncode:
            raise CommandError(f"thumbs failed with {files} files.")
        return round(peak / 1024, 1)


def copied(photos: Sequence[Path], copies: int, folder: Path) -> Path:
    """Copy each photo several times into a new folder."""
    folder.mkdir()
    for copy in range(copies):
        for photo in photos:
            name = photo.name.replace(" ", "-")
            (folder / (f"{copy}-{name}" if copies > 1 else name)).write_bytes(photo.read_bytes())
    return folder


def measure(
    folder: Path, tiny: Path, qualities: dict[str, int], rounds: int
) -> list[dict[str, Any]]:
    """Measure all tools in turns: both widths, then the larger one alone.

    The start is what they take for the folder `tiny`, which has one tiny picture.
    """
    pictures = len(list(folder.iterdir()))
    rows = []
    with progress_bar() as bar:
        for widths in (WIDTHS, WIDTHS[-1:]):
            costs: dict[str, list[Cost]] = {}
            starts: dict[str, list[Cost]] = {}
            for _ in bar.track(range(rounds), description=f"Widths {widths}"):
                for tool, commands in TOOLS.items():
                    for photos, count, found in ((tiny, 1, starts), (folder, pictures, costs)):
                        with TemporaryDirectory() as made:
                            steps = commands(photos, Path(made), widths, qualities[tool])
                            found.setdefault(tool, []).append(run(steps, count))
                if widths == WIDTHS:
                    costs.setdefault(ENGINE, []).append(engine(folder))
            for tool, taken in costs.items():
                pairs = list(zip(costs[OURS], taken, strict=True))
                start = _median(starts[tool]) if tool in starts else None
                rows.append(
                    {"tool": tool, "widths": widths}
                    | asdict(_median(taken))
                    | {
                        "ours_cpu_ratio": _ratio([(a.cpu_ms, b.cpu_ms) for a, b in pairs]),
                        "ours_wall_ratio": _ratio([(a.wall_ms, b.wall_ms) for a, b in pairs]),
                        "start": start and asdict(start),
                    }
                )
    return rows


def _median(costs: Sequence[Cost]) -> Cost:
    """The median CPU time and the median wall time, rounded."""
    return Cost(
        round(statistics.median(each.cpu_ms for each in costs), 1),
        round(statistics.median(each.wall_ms for each in costs), 1),
    )


def _ratio(pairs: list[tuple[float, float]]) -> float:
    """The median over the rounds of what `thumbs` takes as a multiple of another tool."""
    return round(statistics.median(ours / other for ours, other in pairs), 2)


def versions() -> dict[str, str]:
    """Versions of the tools."""
    printed = subprocess.run(  # noqa: S603 - no input
        [VIPS, "--vips-version"], capture_output=True, text=True, check=True
    ).stdout
    packages = json.loads((SHARP / "package-lock.json").read_text())["packages"]
    return {
        "commit": commit(),
        VIPS: printed.split()[-1],
        **{name: packages[f"node_modules/{name}"]["version"] for name in (SHARP_CLI, "sharp")},
    }


def show(found: dict[str, Any]) -> None:
    """Print the results as tables."""
    table = Table(
        "widths",
        "tool",
        "CPU ms",
        "wall ms",
        "ours ÷ its CPU",
        "ours ÷ its wall",
        "start CPU ms",
        "start wall ms",
    )
    for row in found["tools"]:
        start = row["start"] or {}
        table.add_row(
            " and ".join(map(str, row["widths"])),
            row["tool"],
            f"{row['cpu_ms']:.1f}",
            f"{row['wall_ms']:.1f}",
            f"{row['ours_cpu_ratio']:.2f}",
            f"{row['ours_wall_ratio']:.2f}",
            *(f"{start[each]:.0f}" if start else "" for each in ("cpu_ms", "wall_ms")),
        )
    out.print(table)
    table = Table("tool", "quality", "score", "bytes")
    for row in found["quality"]:
        table.add_row(row["tool"], str(row["quality"]), f"{row['score']:.1f}", f"{row['bytes']:,}")
    out.print(table)
    for row in found["memory"]:
        out.print(f"{row['files']:,} files: the parent has {row['peak_mb']:.1f} MB at most")


@app.command()
def thumbs(
    photos: Annotated[Path, typer.Argument(help="Folder with photos (.jpg).")] = PHOTOS,
    *,
    rounds: Annotated[int, typer.Option(min=2, help="Number of turns of each tool.")] = 5,
    copies: Annotated[int, typer.Option(min=1, help="Copies of each photo in a run.")] = 8,
    memory: Annotated[
        bool, typer.Option(help="Measure memory with 2,000 and 20,000 files too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Compare `image-pipeline thumbs` with the image code alone, vipsthumbnail and sharp-cli.

    Each round runs every tool once on the same photos, so the ratios within a round are hardly
    affected by other work on the machine. The results are written to bench/results/thumbs.json.

    **Examples**

    `python -m bench.thumbs ~/Pictures/holiday --rounds 3`

    `python -m bench.thumbs --no-memory --json`
    """
    files = sorted(photos.glob("*.jpg"))
    if not files:
        raise CommandError(
            f"There are no .jpg files in {photos}. Run: make bench-thumbs PHOTOS=FOLDER"
        )
    if not shutil.which(VIPS):
        raise CommandError(f"{VIPS} is missing. Run: make vipsthumbnail")
    if sys.platform != "linux":
        raise CommandError(
            "This benchmark needs Linux, which counts the CPU time of all processes."
        )
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with TemporaryDirectory() as folder:
        equal = equal_quality(copied(files, 1, Path(folder) / "once"))
        several = copied(files, copies, Path(folder) / "several")
        tiny = Path(folder) / "tiny"
        tiny.mkdir()
        Image.new("RGB", (16, 16), (9, 9, 200)).save(tiny / "tiny.jpg")
        tools = measure(several, tiny, {tool: each[0] for tool, each in equal.items()}, rounds)
    found = {
        "what": "thumbs beside other tools in turns, one machine: compare only as ratios",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "photos": len(files),
        "copies": copies,
        "cores": cores(),
        "load": load(),
        "machine": machine(),
        "versions": versions(),
        "tools": tools,
        "quality": [
            {"tool": tool, "quality": quality, "score": round(points, 2), "bytes": size}
            for tool, (quality, points, size) in equal.items()
        ],
        "memory": [{"files": each, "peak_mb": peak_mb(each)} for each in FILES if memory],
    }
    if memory:
        RESULT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        print_json(found)
    else:
        show(found)


if __name__ == "__main__":
    run_app(app)
