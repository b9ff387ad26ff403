"""One engine in a separate process: reads requests as JSON lines, writes responses to stdout.

    python engine_worker.py ENGINE          (a name of ENGINES)

A request is {"path", "widths", "quality", "output"}: an image, and the folder to save its
thumbnails in, or null. A response has "cpu_ms" (user and system time of all threads), "wall_ms",
"start_mb" and "peak_mb" (the process's peak of resident memory before and after the image),
"encode_ms" (the part of the CPU time that the encoder takes; null where it is not known) and
"bytes" of each thumbnail; or only "error" if the engine cannot read the image. The file is read
before the clock starts.

The program runs in two environments, so only the engine of this project imports its code.
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
"""(file, widths in pixels, quality) → thumbnails."""

METHOD = 4
"""Effort of the WebP encoder, the default of Pillow, sharp and libvips."""

MAX_HEIGHT = 1_000_000
"""Pixels: more than any thumbnail has, for calls that require a height."""

LAMBDA = Path(__file__).resolve().parents[1] / "lambda"


def ours() -> Make:
    """The image code of this pipeline."""
    sys.path.insert(0, str(LAMBDA))
    from thumbnailer.imaging import (  # noqa: PLC0415 - only for this engine
        ENCODERS,
        Size,
        ThumbnailSpec,
        make_thumbnails,
    )

    memory_mb = 4096
    encoder = ENCODERS["webp"]

    def encode(*arguments: Any) -> bytes:
        began = time.process_time()
        encoded: bytes = encoder.encode(*arguments)
        make.encode_ms += (time.process_time() - began) * 1000  # type: ignore[attr-defined]
        return encoded

    ENCODERS["webp"] = encoder._replace(encode=encode)  # type: ignore[index]

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        make.encode_ms = 0.0  # type: ignore[attr-defined]
        specs = [ThumbnailSpec(Size.of_width(width), quality, animated=True) for width in widths]
        return [each.data for each in make_thumbnails(data, specs, memory_mb).thumbnails]

    return make


def pillow_per_size() -> Make:
    """Decode the whole image for each width and resize it: the simplest way."""
    image_of, encoded, _ = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        return [encoded(_scaled(image_of(data), width), quality) for width in widths]

    return make


def pillow_thumbnail() -> Make:
    """Call `Image.thumbnail` for each width, as the tutorials of Pillow and AWS do."""
    _, encoded, opened = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        found = []
        for width in widths:
            image = opened(data)
            image.thumbnail((width, MAX_HEIGHT))
            found.append(encoded(image, quality))
        return found

    return make


def pillow_one_decode() -> Make:
    """Decode the whole image once and resize it to each width."""
    image_of, encoded, _ = _pillow()

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        image = image_of(data)
        return [encoded(_scaled(image, width), quality) for width in widths]

    return make


def pyvips_chain() -> Make:
    """Use libvips' `thumbnail`, which scales while it decodes; each width from the larger one."""
    import pyvips  # noqa: PLC0415 - only for this engine

    pyvips.cache_set_max(0)  # a cached result would make the next round too fast

    def make(data: bytes, widths: list[int], quality: int) -> list[bytes]:
        image = pyvips.Image.thumbnail_buffer(data, max(widths), height=MAX_HEIGHT, size="down")
        image = image.copy_memory()
        found = {}
        for width in sorted(widths, reverse=True):
            if image.width > width:
                image = image.thumbnail_image(width, height=MAX_HEIGHT, size="down").copy_memory()
            found[width] = image.webpsave_buffer(Q=quality, effort=METHOD, keep="none")
        return [found[width] for width in widths]

    return make


def floor() -> Make:
    """Decode a JPEG at the smallest scale and encode finished thumbnails: the lower bound.

    No engine built on libjpeg-turbo and libwebp can make these thumbnails in less time.
    """
    image_of, encoded, opened = _pillow()
    made: dict[int, list[Any]] = {}

    def make(data: bytes, _: list[int], quality: int) -> list[bytes]:
        image = opened(data)
        if image.format != "JPEG":
            raise ValueError("JPEG only")
        image.draft(None, (1, 1))
        image.decodermaxblock = len(data)  # one read for the whole file, as this pipeline does
        image.load()
        return [encoded(thumbnail, quality) for thumbnail in made[hash(data)]]

    def prepare(data: bytes, widths: list[int]) -> None:
        if hash(data) not in made and opened(data).format == "JPEG":
            made[hash(data)] = [_scaled(image_of(data), width) for width in widths]
            with suppress(OSError):  # resets the peak of memory after this preparation
                Path("/proc/self/clear_refs").write_text("5")

    make.prepare = prepare  # type: ignore[attr-defined]
    return make


def _pillow() -> tuple[Callable[..., Any], Callable[..., bytes], Callable[..., Any]]:
    """Functions of plain Pillow: decode a whole image, encode a WebP, open a file."""
    import pillow_heif  # noqa: PLC0415 - the usual plugin for HEIC
    from PIL import Image  # noqa: PLC0415 - only for this engine

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
    from PIL import Image  # noqa: PLC0415 - only for this engine

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


def responses(make: Make) -> Iterator[dict[str, Any]]:
    """Yield the response to each request of stdin."""
    for line in sys.stdin:
        request = json.loads(line)
        path, widths = Path(request["path"]), request["widths"]
        data = path.read_bytes()
        getattr(make, "prepare", lambda *_: None)(data, widths)
        start_mb = peak_mb()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            thumbnails = make(data, widths, request["quality"])
        except Exception as error:  # noqa: BLE001 - engines raise any error
            yield {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
            continue
        response = {
            "cpu_ms": (time.process_time() - cpu) * 1000,
            "wall_ms": (time.perf_counter() - wall) * 1000,
            "encode_ms": getattr(make, "encode_ms", None),
            "start_mb": start_mb,
            "peak_mb": peak_mb(),
            "bytes": [len(each) for each in thumbnails],
        }
        if request["output"]:
            for width, thumbnail in zip(widths, thumbnails, strict=True):
                (Path(request["output"]) / f"{width}.webp").write_bytes(thumbnail)
        yield response


def peak_mb() -> float:
    """Peak of resident memory in MB. VmHWM, unlike ru_maxrss, excludes the parent before exec."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def main() -> None:
    """Respond to requests until stdin ends."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    make = ENGINES[sys.argv[1]]()
    for response in responses(make):
        print(json.dumps(response), flush=True)  # noqa: T201 - the output


if __name__ == "__main__":
    main()
