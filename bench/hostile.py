"""Uploads files that hurt to the built function, at Lambda's CPU and memory.

Each file must cost one attempt and end with thumbnails or with one dead-letter message, and a photo
after it must get its thumbnails. The results are written to bench/results/hostile.json and to the
table in docs/security.md.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from bench.cold_start import SETTINGS, LocalS3, build_ours, event_of, local_s3
from bench.function import process_one
from bench.hostile_files import KINDS
from bench.limits import LimitUnavailable, limited
from bench.photos import Photo, drawn_photo
from bench.record import REPOSITORY, RESULTS, commit, machine
from bench.slow_files import SLOW
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.local.runtime_emulator import RuntimeEmulator
from image_pipeline.stack.costs import PRICES
from thumbnailer.imaging import FULL_CPU_MB

RESULT: Final = RESULTS / "hostile.json"
PAGE: Final = REPOSITORY / "docs" / "security.md"
TABLE_BEGIN: Final = "<!-- Written by make bench-hostile -->\n"
TABLE_END: Final = "<!-- End of the table -->\n"

MEMORY_MB: Final = 512
TIMEOUT_S: Final = 30
"""Defaults of LambdaMemorySize and LambdaTimeout."""

RETRIED: Final = 3
"""Attempts for an event whose invocation fails: the default of MaximumRetryAttempts, and one."""

SIDES: Final = (6000, 4000)
"""Pixels of the files that need more memory than their headers suggest."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Attack:
    """What one file cost. `outcome` is "thumbnails" or the type of the error."""

    file: str
    bytes: int
    outcome: str
    attempts: int
    billed_s: float
    dollars: float


def files() -> dict[str, Callable[[], bytes]]:
    """Return what makes each file, by name."""
    large = {name: partial(make, *SIDES) for name, make in KINDS.items()}
    return SLOW | large


@contextmanager
def environment(artefact: Path, s3: LocalS3, timeout: int) -> Iterator[RuntimeEmulator]:
    """Start an execution environment with MEMORY_MB and its share of a CPU.

    Raises LimitUnavailable.
    """
    variables = {
        **SETTINGS,
        "ANIMATED": "true",
        "AWS_ENDPOINT_URL": s3.endpoint,
        "DLQ_URL": s3.create_queue(),
    }
    with (
        limited(cpu=MEMORY_MB / FULL_CPU_MB, memory_mb=MEMORY_MB) as command,
        RuntimeEmulator(
            artefact, variables, memory_mb=MEMORY_MB, timeout=timeout, command=command
        ) as emulator,
    ):
        yield emulator


def attacks(
    emulator: RuntimeEmulator,
    s3: LocalS3,
    wanted: Iterable[tuple[str, Callable[[], bytes]]],
    photo: Photo,
) -> Iterator[Attack]:
    """Upload each file, and a photo after it.

    Raises CommandError where the photo gets no thumbnails, or a failed file no message.
    """
    _process(emulator, photo, s3)
    for name, make in wanted:
        upload = Photo(Path(name).name, make(), 0, 0)
        s3.copy(upload, [upload.key])
        done = emulator.invoke(event_of(upload))
        messages = s3.take_messages()
        if done.error:
            outcome = done.error.type
        elif failed := done.result["failed"]:
            outcome = failed[0]["error"]["type"]
            if [each["key"] for each in messages] != [upload.key]:
                raise CommandError(f"{name}: {outcome}, with {len(messages)} messages")
        else:
            outcome = "thumbnails"
        attempts = RETRIED if done.error else 1
        seconds = attempts * done.billed_ms / 1000
        price = PRICES["lambda_gb_second"]["arm64"] * MEMORY_MB / 1024
        yield Attack(
            upload.name,
            len(upload.data),
            outcome,
            attempts,
            round(seconds, 1),
            seconds * price + attempts * PRICES["lambda_request"],
        )
        _process(emulator, photo, s3)


def _process(emulator: RuntimeEmulator, photo: Photo, s3: LocalS3) -> None:
    """Process a photo, with the retries of Lambda: the machine may be busy."""
    for attempt in range(1, RETRIED + 1):
        try:
            process_one(emulator, photo, s3)
        except CommandError:
            if attempt == RETRIED:
                raise
        else:
            return


def table(found: Iterable[Attack]) -> str:
    """Render the table of docs/security.md."""
    lines = [
        "| File | Bytes | Outcome | Attempts | Billed, s | Cost |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.file} | {each.bytes:,} | `{each.outcome}` | {each.attempts} | "
        f"{each.billed_s:.1f} | ${each.dollars:.5f} |"
        for each in found
    ]
    return "\n".join(lines) + "\n"


def write_page(found: Iterable[Attack]) -> None:
    """Replace the table in docs/security.md."""
    before, _, rest = PAGE.read_text().partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    PAGE.write_text(before + TABLE_BEGIN + table(found) + TABLE_END + after)


@app.command()
def hostile(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of the table, or files. Default: the table.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Upload files that hurt to the built function, at 512 MB and 0.29 vCPU, in ten minutes.

    Needs root on Linux, for cgroups. With all files, the results are also written to
    bench/results/hostile.json and docs/security.md.

    **Examples**

    `python -m bench.hostile`

    `python -m bench.hostile scans-2000.jpg mine.tif`
    """
    every = files()
    for name in names or ():
        if name not in every:
            every[name] = Path(name).read_bytes
    wanted = [(name, every[name]) for name in names or every]
    photo = drawn_photo()
    found: list[Attack] = []
    try:
        with (
            local_s3(photo) as s3,
            environment(build_ours(), s3, TIMEOUT_S) as emulator,
            progress_bar() as progress,
        ):
            task = progress.add_task("Files", total=len(wanted))
            for attack in attacks(emulator, s3, wanted, photo):
                found.append(attack)
                progress.advance(task)
    except LimitUnavailable as error:
        raise CommandError(
            f"Cannot limit CPU and memory: {error}. Run as root on Linux."
        ) from error
    share = MEMORY_MB / FULL_CPU_MB
    results: dict[str, Any] = {
        "what": f"files that hurt, at {MEMORY_MB} MB and {share:.2f} vCPU, emulated",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "commit": commit(),
        "files": [asdict(each) for each in found],
    }
    if not names:
        RESULT.write_text(json.dumps(results, indent=2) + "\n")
        write_page(found)
    if as_json:
        print_json(results)
        return
    shown = Table("file", "bytes", "outcome", "attempts", "billed s", "$")
    for each in found:
        shown.add_row(
            each.file,
            f"{each.bytes:,}",
            each.outcome,
            str(each.attempts),
            f"{each.billed_s:.1f}",
            f"{each.dollars:.5f}",
        )
    out.print(shown)


if __name__ == "__main__":
    run_app(app)
