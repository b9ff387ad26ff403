"""Real images through the real handler, compared with the expected outcome: `make corpus`."""

import csv
import html
import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote_plus

import boto3
import typer
from PIL import Image
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from thumbnailer.handler import Function
from thumbnailer.imaging import Size
from thumbnailer.settings import Settings
from thumbnailer.storage import s3_bucket
from tools.sheet import row, write_sheet

CASES: Final = Path(__file__).parents[2] / "shared" / "corpus" / "cases.tsv"
SHEET: Final = Path(".local/corpus")
SETTINGS: Final = Settings("", "")
"""The default sizes."""

INPUT, OUTPUT = "corpus-input", "corpus-output"

CORRECTED: Final = {
    "python-pillow+Pillow/Tests/images/l2rgb_read.bmp": "reject-permanent",
    "image-rs+image/tests/bad/tiff/TODO hpredict_cmyk.tiff": "thumbnail",
    "image-rs+image/tests/images/bmp/images/V3_A4_R4_G4_B4.bmp": "thumbnail",
    "image-rs+image/tests/images/bmp/images/lenient/badpalettesize.bmp": "thumbnail",
    "image-rs+image/tests/images/bmp/images/lenient/pal8oversizepal.bmp": "thumbnail",
    "image-rs+image/tests/images/bmp/images/lenient/rle_overflow.bmp": "thumbnail",
    "image-rs+image/tests/images/bmp/images/pal4rlecut.bmp": "thumbnail",
    "pnggroup+libpng/contrib/testpngs/crashers/badadler.png": "thumbnail",
    "imgproxy+imgproxy/testdata/test1.drop-shadow.fixed.svg": "thumbnail",
    "imgproxy+imgproxy/testdata/test1.svg": "thumbnail",
    "libvips+libvips/test/test-suite/images/blankpage.svg": "thumbnail",
    "libvips+libvips/test/test-suite/images/logo.svg": "thumbnail",
    "link-u+avif-sample-images/plum-blossom.svg": "thumbnail",
    "lovell+sharp/test/fixtures/struct-image-04-t.svg": "thumbnail",
}
"""Rows whose expectation is wrong, and the right one. l2rgb_read.bmp claims 151 megapixels of one
bit and has 57 bytes. The pixels would fit into memory, so it is corrupt and not too large.
hpredict_cmyk.tiff is a valid CMYK picture with alpha, which Pillow alone cannot read. All pixels of
badadler.png are there, and browsers show it: only the checksum at their end is wrong. The BMP
V3_A4_R4_G4_B4.bmp is valid, and has four bits for each sample. All pixels of the other ones are
there, and browsers show them: their palettes claim more colours than they can have, or their run
lengths leave out pixels or exceed their row. SVG is drawn since the table was written."""

SHOWN_BY_BROWSERS: Final = {
    ".jpg",
    ".jpeg",
    ".png",
    ".apng",
    ".gif",
    ".webp",
    ".avif",
    ".svg",
    ".bmp",
}

app = new_app()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one file. `got` is a value of the table of cases, or says what happened."""

    path: str
    kind: str
    expected: str
    got: str
    message: str = ""

    @property
    def right(self) -> bool:
        """Whether it is the expected outcome; `thumbnail-or-too-large` accepts both."""
        return self.got in {
            "thumbnail-or-too-large": ("thumbnail", "too-large"),
            "reject-permanent": ("reject-permanent", "too-large"),
        }.get(self.expected, (self.expected,))


@app.command()
def corpus(
    cases: Annotated[
        Path,
        typer.Option(
            metavar="FILE.tsv", help="Table of path, class, expected; the files are in cases/."
        ),
    ] = CASES,
    sheet: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the contact sheet.")
    ] = SHEET,
    *,
    as_json: Json = False,
) -> None:
    """Run a table of image files through the handler and show class × expected × got.

    `expected` is `thumbnail`, `reject-permanent` or `thumbnail-or-too-large`. A contact sheet shows
    each file beside its thumbnails. The exit code is 1 if any outcome differs.

    **Examples**

    `make corpus`

    `python -m tools.corpus --cases my-cases.tsv --sheet /tmp/sheet`
    """
    rows = read_cases(cases)
    sheet.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        task = progress.add_task("Files", total=len(rows))
        outcomes = run(rows, cases.parent / "cases", sheet, lambda: progress.advance(task))
    write_outcomes(outcomes, cases.parent / "cases", sheet)
    if as_json:
        print_json([asdict(outcome) | {"right": outcome.right} for outcome in outcomes])
    else:
        show(outcomes, sheet)
    if not all(outcome.right for outcome in outcomes):
        sys.exit(1)


def read_cases(table: Path) -> list[dict[str, str]]:
    """Rows with path, class and expected. Raises CommandError if there is no such table."""
    if not table.is_file():
        raise CommandError(f"There is no table of cases at {table}. Name one: CASES=my-cases.tsv.")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not {"path", "class", "expected"} <= set(rows[0]):
        raise CommandError(
            f"{table} needs the columns path, class and expected, separated by tabs."
        )
    return rows


def run(
    rows: list[dict[str, str]], files: Path, sheet: Path, done: Callable[[], object] = lambda: None
) -> list[Outcome]:
    """Send each file through the handler, and keep its thumbnails in `sheet`."""
    outcomes = []
    with _aws() as (s3, sqs, queue, handler):
        for number, row in enumerate(rows):
            body = (files / row["path"]).read_bytes()
            got, message = _one(s3, sqs, queue, handler, row["path"], body, sheet / f"{number}")
            expected = CORRECTED.get(row["path"], row["expected"])
            outcomes.append(Outcome(row["path"], row["class"], expected, got, message))
            done()
    return outcomes


@contextmanager
def _aws() -> Iterator[tuple[Any, Any, str, Any]]:
    """Yield S3, SQS, the queue's URL and the function, with an empty local AWS."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - a development tool

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    kept = dict(os.environ)
    try:
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "OUTPUT_BUCKET": OUTPUT,
            "LOG_LEVEL": "WARNING",
            "DLQ_URL": "http://127.0.0.1:9/0/unset",
        }
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        for bucket in (INPUT, OUTPUT):
            s3.create_bucket(Bucket=bucket)
        # Within a process moto's queues outlive its server, so each run uses a name of its own.
        queue = sqs.create_queue(QueueName=f"dead-letters-{port}")["QueueUrl"]
        s3_bucket.kept_client.cache_clear()  # clients of an earlier run's server
        yield s3, sqs, queue, Function(os.environ | {"DLQ_URL": queue})
    finally:
        os.environ.clear()
        os.environ |= kept
        server.stop()


class _Context:
    """Lambda's context, with half a minute left."""

    aws_request_id = "corpus"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def _one(  # noqa: PLR0913, PLR0917 - the parts of one stack
    s3: Any, sqs: Any, queue: str, handler: Any, name: str, body: bytes, kept: Path
) -> tuple[str, str]:
    """Upload a file, process it, and return the outcome and its reason."""
    key = f"uploads/{name}"
    s3.put_object(Bucket=INPUT, Key=key, Body=body)
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": INPUT}, "object": {"key": quote_plus(key)}},
    }
    log = io.StringIO()
    fault = None
    with redirect_stdout(log):
        try:
            handler({"Records": [record]}, _Context())
        except Exception as error:  # noqa: BLE001 - any exception is an outcome
            fault = f"{type(error).__name__}: {error}"
    made = {}
    for size in SETTINGS.sizes:
        try:
            found = s3.get_object(
                Bucket=OUTPUT, Key=handler.settings.thumbnail_key(key, size, "webp")
            )
        except s3.exceptions.NoSuchKey:
            continue
        made[size] = found["Body"].read()
        kept.with_name(_thumbnail_name(kept.name, size)).write_bytes(made[size])
        s3.delete_object(Bucket=OUTPUT, Key=handler.settings.thumbnail_key(key, size, "webp"))
    failures = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            failures.append(json.loads(message["Body"])["error"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    reasons = [
        line["reason"] for line in _lines(log.getvalue()) if line.get("action") == "degraded"
    ]
    return _verdict(made, failures, fault, reasons)


def _lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def _verdict(
    made: dict[Size, bytes], failures: list[dict[str, Any]], fault: str | None, reasons: list[str]
) -> tuple[str, str]:
    if fault is not None:
        return "raised", fault
    if len(made) == len(SETTINGS.sizes) and not failures:
        return "thumbnail", "; ".join(reasons)
    if len(failures) == 1 and failures[0]["permanent"] and not made:
        got = "too-large" if failures[0]["type"] == "ImageTooLarge" else "reject-permanent"
        return got, f"{failures[0]['type']}: {failures[0]['message']}"
    return f"{len(made)} thumbnails and {len(failures)} messages", json.dumps(failures)


def show(outcomes: list[Outcome], sheet: Path) -> None:
    """Print class × expected × got, then every difference."""
    table = Table("class", "expected", "got", "files")
    counts = Counter((each.kind, each.expected, each.got, each.right) for each in outcomes)
    for (kind, expected, got, right), count in sorted(counts.items()):
        style = None if right else "bold red"
        table.add_row(escape(kind), escape(expected), escape(got), str(count), style=style)
    out.print(table)
    wrong = [each for each in outcomes if not each.right]
    for each in wrong:
        out.print(
            f"[bold red]{escape(each.path)}[/]: expected {escape(each.expected)}, got ", end=""
        )
        out.print(f"{escape(each.got)} ({escape(each.message)})", soft_wrap=True)
    out.print(
        f"{len(outcomes) - len(wrong)} of {len(outcomes)} as expected. See {sheet}/index.html"
    )


def write_outcomes(outcomes: list[Outcome], files: Path, sheet: Path) -> None:
    """Write the page: each file on the left, its thumbnails beside it, grouped by class."""
    rows = []
    kind = None
    for number in sorted(range(len(outcomes)), key=lambda at: (outcomes[at].kind, at)):
        outcome = outcomes[number]
        if outcome.kind != kind:
            kind = outcome.kind
            rows.append(f"<h2>{html.escape(kind)}</h2>")
        made = reversed(SETTINGS.sizes) if outcome.got == "thumbnail" else ()
        source = _viewable(files / outcome.path, sheet / f"{number}_source")
        names = [source, *(_thumbnail_name(number, size) for size in made)]
        words = f"{outcome.path}\nexpected {outcome.expected}, got {outcome.got}\n{outcome.message}"
        rows.append(row(sheet, names, words, marked=not outcome.right))
    write_sheet(sheet, "Contact sheet", "differences", rows)


def _thumbnail_name(number: int | str, size: Size) -> str:
    return f"{number}_{size.name}.webp"


def _viewable(source: Path, copy: Path) -> str | None:
    """Copy a file for browsers, as it is or as a PNG by Pillow; return the copy's name."""
    if source.suffix.lower() in SHOWN_BY_BROWSERS:
        shutil.copyfile(source, copy.with_suffix(source.suffix.lower()))
        return copy.with_suffix(source.suffix.lower()).name
    try:
        from pi_heif import register_heif_opener  # type: ignore[import-untyped]  # noqa: PLC0415

        register_heif_opener()
        with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
            image.thumbnail((640, 640))
            image.convert("RGBA").save(copy.with_suffix(".png"))
    except Exception:  # noqa: BLE001 - then only the text is shown
        return None
    return copy.with_suffix(".png").name


if __name__ == "__main__":
    run_app(app)
