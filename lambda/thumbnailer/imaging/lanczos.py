"""The careful resize: Lanczos with SIMD where there is a library for it, and else Pillow's.

cykooz-resizer (https://github.com/Cykooz/cykooz.resizer) reads and writes Pillow's own memory, so
nothing is copied. It takes a seventh of Pillow's time, and its results are as exact, for boxes with
fractions too (ADR 38). It has no wheel for Linux on arm64: there, and for modes that it does not
know, Pillow resizes.
"""

from importlib.machinery import PathFinder
from math import nextafter
from typing import Any, Final

import PIL
from PIL import Image

from thumbnailer.imaging.spec import PixelSize

type _Box = tuple[float, float, float, float]

LANCZOS: Final = Image.Resampling.LANCZOS

MODES: Final = ("L", "RGB", "RGBa", "CMYK", "F")
"""What the library resizes faster than Pillow. It has no SIMD for I."""

PILLOW: Final = "13"
"""Major version of Pillow whose pictures the library reads: it knows their layout in memory
(Pillow's Imaging.h), which another version may change."""

CONVOLUTION, LANCZOS3, ONCE = 2, 5, 1
"""Numbers of the library for the algorithm, its filter, and for no supersampling (structs.py)."""

PANIC: Final = "PanicException"
"""Name of what Rust's panics become, which is no Exception (https://pyo3.rs, Error handling)."""

_faults: list[str] = []
"""Of this process, until `take_faults`."""


def load(package: str = "cykooz_resizer") -> Any:
    """Import the library's extension module; None where it cannot be used.

    Only that module: what the package itself imports (dataclasses, inspect) takes 17 ms.
    """
    found = PathFinder.find_spec(package)
    if found is None or PIL.__version__.partition(".")[0] != PILLOW:
        return None
    spec = PathFinder.find_spec(f"{package}.rust_lib", found.submodule_search_locations)
    if spec is None or spec.loader is None or (module := spec.loader.create_module(spec)) is None:
        return None
    spec.loader.exec_module(module)
    return module


_library: Any = load()


def is_fast(mode: str) -> bool:
    """Whether pictures of this mode are resized by the library."""
    return _library is not None and mode in MODES


def lanczos(
    picture: Image.Image, size: PixelSize, box: _Box | None = None, gap: float | None = None
) -> Image.Image:
    """Scale `box` of a picture, or all of it, down to `size`.

    Where Pillow does it, the picture is averaged first, to no less than `gap` times the size, since
    Pillow's Lanczos is expensive. Raises MemoryError, and ValueError for a box that is not within
    the picture.
    """
    box = box or (0.0, 0.0, float(picture.width), float(picture.height))
    if is_fast(picture.mode) and _is_within(box, picture.size):
        # The library needs as much for the half-resized picture. If Rust lacked it, the process
        # would end; Pillow raises an error.
        Image.new(picture.mode, (size[0], picture.height), None)
        made = Image.new(picture.mode, size, None)
        try:
            _resize(picture, made, box)
        except BaseException as error:
            if not isinstance(error, RuntimeError) and type(error).__name__ != PANIC:
                raise
            _faults.append(f"resized by Pillow, because cykooz-resizer failed: {error}")
        else:
            made.info = picture.info.copy()  # as Pillow does
            return made
    return picture.resize(size, LANCZOS, box=box, reducing_gap=gap)


def _resize(picture: Image.Image, made: Image.Image, box: _Box) -> None:
    """Resize `box` of a picture into another picture, in the calling thread.

    Raises RuntimeError, or a panic.
    """
    across = _length(box[0], box[2], picture.width)
    down = _length(box[1], box[3], picture.height)
    options = _library.RustResizeOptions()
    options = options.set_resize_alg(CONVOLUTION, LANCZOS3, ONCE)
    options = options.set_crop_box(box[0], box[1], across, down).set_use_alpha(False)
    source, target = map(_library.PilImageWrapper, (picture, made))
    # A new one each time: it keeps its memory.
    _library.RustResizer().resize_pil(source, target, options)


def _is_within(box: _Box, size: PixelSize) -> bool:
    """Whether a box is a part of a picture of this size. The library does not check all of it."""
    return 0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]


def _length(start: float, end: float, limit: int) -> float:
    """Return `end` − `start`, rounded so that `start` and the length do not exceed the limit."""
    length = end - start
    while start + length > limit:
        length = nextafter(length, 0)
    return length


def take_faults() -> tuple[str, ...]:
    """Return, once, why Pillow had to resize instead of the library: notes for the log."""
    found = tuple(dict.fromkeys(_faults))
    _faults.clear()
    return found
