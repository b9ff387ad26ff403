"""Measures how fast the console's gallery opens over a bucket of 100,000 images.

    python -m bench.console [OBJECTS [MILLISECONDS]]

The bucket is a listing alone: a server in this process answers each request for a part of it after
150 milliseconds, about what S3 takes for 1,000 names
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html). A page is
requested as a browser does, and measured until its HTML is there.
"""

import statistics
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table

from image_pipeline.console.gallery import LAST_CHARACTER, View
from image_pipeline.console.guard import SESSION_PATH
from image_pipeline.console.server import serve
from image_pipeline.console.session import FRAGMENT, new_address
from image_pipeline.ports import HOST, listening
from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer.settings import DEFAULT_PREFIX, Settings

OBJECTS: Final = 100_000
MILLISECONDS: Final = 150
RUNS: Final = 5
FOLDERS: Final = 100
"""Folders of the second bucket, each with an equal share of the images."""

KEY: Final = "console-key"


class Listing(ThreadingHTTPServer):
    """S3 as far as ListObjectsV2 needs it, of sorted keys, each answer after `seconds`."""

    def __init__(self, keys: list[str], seconds: float) -> None:
        super().__init__((HOST, 0), Answers)
        self.keys, self.seconds, self.requests = sorted(keys), seconds, 0

    def part(self, prefix: str, delimiter: str, after: str, limit: int) -> tuple[list[str], bool]:
        """Return up to `limit` keys and common prefixes after `after`, and whether more follow."""
        found: list[str] = []
        index = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after))
        while index < len(self.keys) and self.keys[index].startswith(prefix):
            if len(found) == limit:
                return found, True
            name, is_folder, _ = self.keys[index][len(prefix) :].partition(delimiter or "\0")
            found.append(prefix + name + is_folder)
            index = bisect_left(self.keys, found[-1] + LAST_CHARACTER) if is_folder else index + 1
        return found, False


class Answers(BaseHTTPRequestHandler):
    """Answers requests for a listing."""

    server: Listing
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a part of the listing."""
        self.server.requests += 1
        time.sleep(self.server.seconds)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        after = query.get("continuation-token", query.get("start-after", ""))
        limit = int(query.get("max-keys", 1000))
        delimiter = query.get("delimiter", "")
        found, more = self.server.part(query.get("prefix", ""), delimiter, after, limit)
        contents = "".join(
            (
                f"<CommonPrefixes><Prefix>{quote(each)}</Prefix></CommonPrefixes>"
                if each.endswith("/")
                else f"<Contents><Key>{quote(each)}</Key><Size>1</Size><ETag>&quot;0&quot;</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
            for each in found
        )
        last = found[-1] + LAST_CHARACTER * found[-1].endswith("/") if found else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" * more
        body = (
            "<ListBucketResult><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def console_of(keys: list[str], seconds: float) -> Iterator[tuple[str, dict[str, str], Listing]]:
    """Serve the console of such a bucket; yields its URL, the headers of its pages, the bucket."""
    with Listing(keys, seconds) as bucket, listening(0) as listener:
        threading.Thread(target=bucket.serve_forever, daemon=True).start()
        account = Aws.local(f"http://{HOST}:{bucket.server_port}", AccessKey("bench", "bench"))
        stack = Stack(account, "bench", "in", "function", Settings("out", "queue"), "arm64", {})
        ended, port = threading.Event(), listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(stack, listener, KEY, ended))
        thread.start()
        url = f"http://{HOST}:{port}"
        secret = urlsplit(new_address(port, KEY)).fragment.removeprefix(f"{FRAGMENT}=")
        body = f'{{"secret": "{secret}"}}'.encode()
        with urlopen(Request(url + SESSION_PATH, body, {"Origin": url})) as answer:  # noqa: S310
            token = answer.read().decode().split('"')[3]
        try:
            yield url, {"Authorization": f"Bearer {token}", "Accept": "text/html"}, bucket
        finally:
            ended.set()
            thread.join()
            bucket.shutdown()


def measure(keys: list[str], seconds: float, view: View) -> tuple[float, int]:
    """Return the median of the seconds until a page is there, and its number of listings.

    Each run is of a new console, which has listed nothing.
    """
    times = []
    for _ in range(RUNS):
        with console_of(keys, seconds) as (url, headers, bucket):
            started = time.perf_counter()
            with urlopen(Request(url + view.url, headers=headers)) as answer:  # noqa: S310
                answer.read()
            times.append(time.perf_counter() - started)
            number = bucket.requests
    return statistics.median(times), number


def main() -> None:
    """Measure each kind of page, and print a table."""
    given = [int(each) for each in sys.argv[1:]]
    objects, milliseconds = [*given, *(OBJECTS, MILLISECONDS)[len(given) :]]
    folders = [f"{DEFAULT_PREFIX}{n % FOLDERS:03d}/{n:06d}.jpg" for n in range(objects)]
    flat = [f"{DEFAULT_PREFIX}{n:06d}.jpg" for n in range(objects)]
    table = Table("Page", "Seconds", "Requests to S3", title=f"{objects:,} images")
    for name, keys, view in (
        (f"{FOLDERS} folders", folders, View()),
        ("One of the folders", folders, View("042/")),
        ("Search in a folder", folders, View("042/", find="42.jpg")),
        ("Search everywhere", folders, View(find="042")),
        ("All in one folder, which is too large to sort", flat, View()),
        ("Its second page", flat, View(after=f"{DEFAULT_PREFIX}000047.jpg")),
    ):
        seconds, requests = measure(keys, milliseconds / 1000, view)
        table.add_row(name, f"{seconds:.2f}", str(requests))
    Console().print(table)


if __name__ == "__main__":
    main()
