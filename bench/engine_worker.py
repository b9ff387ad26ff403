"""One engine in a process of its own: requests come as JSON lines on stdin, answers go to stdout.

    python engine_worker.py ENGINE          (a name of ENGINES)

A request is {"path", "widths", "quality", "output"}: an image, and the folder that its thumbnails
are left in, or null. The answer has "cpu_ms" (user and system, of all threads), "wall_ms",
"peak_mb" (the most memory that the process ever had resident) and "bytes" of each thumbnail; or
"error", where the engine does not read the image. The file is read before the clock starts. It runs
in two environments, so it imports nothing of the project but for the engine that is the project's.
"""

import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

type Make = Callable[[bytes, list[int], int], list[bytes]]

METHOD = 4
"""Effort of the WebP encoder: what Pillow, sharp and libvips use when nothing is said."""

TALLEST = 1_000_000
"""Pixels: a height that no thumbnail reaches, for calls that want a box."""

LAMBDA = Path(__file__).resolve().parents[1] / "lambda"


def ours() -> Make:
    """The function's own code."""
    sys.path.insert(0, str(LAMBDA))
    from thumbnailer.imaging import (  # noqa: PLC0415 - each engine is loaded alone
        Size,
        ThumbnailSpec,
        make_thumbnails,
    )

    memory_mb = 4096

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        specs = [ThumbnailSpec(Size.of_width(width), quality, animated=True) for width in widths]
        return [each.data for each in make_thumbnails(data, specs, memory_mb).thumbnails]

    return make


def pillow_per_size() -> Make:
    """Decode everything for each width, and resize that: what a first version does."""
    image_of, encoded, _ = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        return [encoded(_scaled(image_of(data), width), quality) for width in widths]

    return make


def pillow_thumbnail() -> Make:
    """`Image.thumbnail` for each width: what Pillow's and AWS's tutorials do."""
    _, encoded, opened = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        found = []
        for width in widths:
            image = opened(data)
            image.thumbnail((width, TALLEST))
            found.append(encoded(image, quality))
        return found

    return make


def pillow_one_decode() -> Make:
    """Decode everything once, and resize that to each width."""
    image_of, encoded, _ = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        image = image_of(data)
        return [encoded(_scaled(image, width), quality) for width in widths]

    return make


def pyvips_chain() -> Make:
    """Libvips' `thumbnail`, which scales while it decodes, and each width from the one before."""
    import pyvips  # noqa: PLC0415 - each engine is loaded alone

    pyvips.cache_set_max(0)  # else the second call of the same is answered from memory

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        image = pyvips.Image.thumbnail_buffer(data, max(widths), height=TALLEST, size="down")
        image = image.copy_memory()
        found = {}
        for width in sorted(widths, reverse=True):
            if image.width > width:
                image = image.thumbnail_image(width, height=TALLEST, size="down").copy_memory()
            found[width] = image.webpsave_buffer(Q=quality, effort=METHOD, keep="none")
        return [found[width] for width in widths]

    return make


def floor() -> Make:
    """Decode a JPEG at the smallest scale there is, and encode thumbnails that are made already.

    Nothing built on libjpeg-turbo and libwebp that makes these thumbnails of it can take less.
    """
    image_of, encoded, opened = _pillow()
    made: dict[int, list[Any]] = {}

    def make(data: bytes, _: list[int], quality: int) -> list[bytes]:
        image = opened(data)
        if image.format != "JPEG":
            raise ValueError("JPEG only")
        image.draft(None, (1, 1))
        image.decodermaxblock = len(data)  # as ours: fed whole
        image.load()
        return [encoded(thumbnail, quality) for thumbnail in made[hash(data)]]

    def prepare(data: bytes, widths: list[int]) -> None:
        if hash(data) not in made and opened(data).format == "JPEG":
            made[hash(data)] = [_scaled(image_of(data), width) for width in widths]
            with suppress(OSError):  # from here on, the peak: not that of what was made
                Path("/proc/self/clear_refs").write_text("5")

    make.prepare = prepare  # type: ignore[attr-defined]
    return make


def _pillow() -> tuple[Callable[..., Any], Callable[..., bytes], Callable[..., Any]]:
    """How plain Pillow decodes an image whole, encodes a WebP, and opens a file."""
    import pillow_heif  # noqa: PLC0415 - what its users add for HEIC
    from PIL import Image  # noqa: PLC0415 - each engine is loaded alone

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None

    def opened(data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data))

    def image_of(data: bytes) -> Image.Image:
        image = opened(data)
        return image.convert("RGBA" if image.has_transparency_data else "RGB")

    def encoded(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=METHOD)
        return buffer.getvalue()

    return image_of, encoded, opened


def _scaled(image: Any, width: int) -> Any:
    from PIL import Image  # noqa: PLC0415 - each engine is loaded alone

    size = (width, round(image.height * width / image.width))
    return image.resize(size, Image.Resampling.LANCZOS)


ENGINES: dict[str, Callable[[], Make]] = {
    "ours": ours,
    "pillow-per-size": pillow_per_size,
    "pillow-thumbnail": pillow_thumbnail,
    "pillow-one-decode": pillow_one_decode,
    "pyvips-chain": pyvips_chain,
    "floor": floor,
}


def answers(make: Make) -> Iterator[dict[str, Any]]:
    """The answer to each request, as soon as it comes."""
    for line in sys.stdin:
        request = json.loads(line)
        path, widths = Path(request["path"]), request["widths"]
        data = path.read_bytes()
        getattr(make, "prepare", lambda *_: None)(data, widths)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            thumbnails = make(data, widths, request["quality"])
        except Exception as error:  # noqa: BLE001 - whatever an engine says of what it cannot read
            yield {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
            continue
        answer = {
            "cpu_ms": (time.process_time() - cpu) * 1000,
            "wall_ms": (time.perf_counter() - wall) * 1000,
            "peak_mb": peak_mb(),
            "bytes": [len(each) for each in thumbnails],
        }
        if request["output"]:
            for width, thumbnail in zip(widths, thumbnails, strict=True):
                (Path(request["output"]) / f"{width}.webp").write_bytes(thumbnail)
        yield answer


def peak_mb() -> float:
    """The most memory that was ever resident, MB; on Linux not that of the parent before exec."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1024**2 if sys.platform == "darwin" else most / 1024


def main() -> None:
    """Answer until stdin ends."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    make = ENGINES[sys.argv[1]]()
    for answer in answers(make):
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
