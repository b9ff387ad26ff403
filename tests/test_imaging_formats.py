"""The two registries of the image code: every entry fulfils the contract of its type."""

import os
import pkgutil
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from pictures import decoded, encoded, is_upright, near, quadrants
from PIL import AvifImagePlugin, Image, ImageSequence

import image_utils
from thumbnailer import imaging
from thumbnailer.imaging import (
    ENCODERS,
    HEAD_BYTES,
    OUTPUT_FORMATS,
    Size,
    ThumbnailSpec,
    encoders,
    formats,
    identify,
)
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.estimate import Stages, peak_bytes
from thumbnailer.imaging.formats import FORMATS, Format, load
from thumbnailer.imaging.time_limit import FULL_CPU_MB

SIZE = (96, 64)
MEMORY_MB = 512

FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "jpeg, progressive": ("JPEG", {"progressive": True}),
    "jpeg, several pictures": ("MPO", {"save_all": True, "append_images": [quadrants(SIZE)]}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "webp, lossless": ("WEBP", {"lossless": True}),
    "webp, animated": ("WEBP", {"save_all": True, "append_images": [Image.new("RGB", SIZE)]}),
    "gif": ("GIF", {}),
    "avif": ("AVIF", {}),
    "avif, animated": ("AVIF", {"save_all": True, "append_images": [Image.new("RGB", SIZE)]}),
    "heif": ("HEIF", {}),
    "tiff": ("TIFF", {}),
    "tiff, BigTIFF": ("TIFF", {"big_tiff": True}),
    "jpeg2000": ("JPEG2000", {}),
    "jpeg2000, codestream": ("JPEG2000", {"no_jp2": True}),
    "bmp": ("BMP", {}),
    "ico": ("ICO", {"sizes": [SIZE]}),
    "ico, bitmap": ("ICO", {"sizes": [SIZE], "bitmap_format": "bmp"}),
}
"""Name of an input format, and which kind of it → Pillow's name, and options of its encoder."""

every_file = pytest.mark.parametrize("kind", FILES)
every_format = pytest.mark.parametrize("name", FORMATS)
every_encoder = pytest.mark.parametrize("name", OUTPUT_FORMATS)


def sample(kind: str) -> bytes:
    """Encode four quadrants as one of FILES."""
    pillow_name, options = FILES[kind]
    return encoded(quadrants(SIZE), pillow_name, **options)


# --- input formats ------------------------------------------------------------------------------
def test_the_registry_has_every_module_that_defines_a_format() -> None:
    """No format is forgotten in FORMATS, and each one has a sample in this file.

    Pillow cannot write SVG: test_svg.py has its samples.
    """
    names = [module.name for module in pkgutil.iter_modules(formats.__path__)]
    defining = [
        name for name in names if hasattr(import_module(f"{formats.__name__}.{name}"), "FORMAT")
    ]
    assert sorted(FORMATS) == sorted(defining)
    assert set(FORMATS) == {kind.partition(",")[0] for kind in FILES} | {"svg"}


@every_format
def test_the_name_of_a_module_is_the_name_of_its_format_in_lower_case(name: str) -> None:
    """So `load` finds the format by its module's name, and by its own, which is Pillow's."""
    found = load(name)
    assert isinstance(found, Format)
    assert found.name.lower() == name
    assert load(found.name) is found
    assert found.title


@every_file
def test_exactly_one_format_recognises_a_file(kind: str) -> None:
    """It is the format of the file, and `identify` returns its name."""
    data = sample(kind)
    name = kind.partition(",")[0]
    assert [each for each in FORMATS if load(each).recognise(data)] == [name]
    assert identify(data) == load(name).name


@pytest.mark.parametrize(
    ("brands", "names"),
    [
        (b"heic mif1", ["heif"]),
        (b"avif mif1", ["avif"]),
        (b"mif1 avif heic", ["avif"]),
        (b"msf1 avis", ["avif"]),
        (b"isom mp42", []),
    ],
)
@pytest.mark.parametrize("size", [32, 256])
def test_the_brands_of_a_container_decide_between_its_formats(
    brands: bytes, names: list[str], size: int
) -> None:
    """With a brand of AVIF it is an AVIF, whatever other brands it has; an icon it never is.

    A first box of 256 bytes begins as an icon does.
    """
    major, *others = brands.split()
    data = size.to_bytes(4) + b"ftyp" + major + bytes(4) + b"".join(others)
    assert [each for each in FORMATS if load(each).recognise(data.ljust(size, b"\0"))] == names


@every_file
def test_a_file_can_be_opened_estimated_and_decoded_by_its_format(kind: str) -> None:
    """The functions of the format, or their defaults, work for the image that it has opened."""
    data = sample(kind)
    image = load(kind.partition(",")[0]).open(data, MEMORY_MB)
    assert image.size == SIZE
    found = load(str(image.format))  # of an icon with a PNG file, the PNG format
    max_scale = found.max_scale(data)
    assert max_scale in {2**power for power in range(33)}
    assert found.decoder_bytes(image, data, SIZE) >= 0
    assert found.held_bytes(image, data) >= 0
    assert found.orientation(image) == 1
    picture, box = found.decode(image, SIZE, 1)
    assert found.orientation(image) == 1
    assert (picture.size, box) == (SIZE, (0, 0, *SIZE))
    assert is_upright(picture, tolerance=24)


def test_the_copy_of_a_file_is_a_part_of_the_estimate() -> None:
    """A reader that has corrected the file keeps its copy while it decodes, and after that."""
    data = sample("webp")
    image: Any = open_image(data, MEMORY_MB)
    found = load("webp")
    stages = Stages(SIZE, SIZE, SIZE)
    plain = peak_bytes(found, image, data, stages, [])
    image.copied_bytes = 1000
    assert peak_bytes(found, image, data, stages, []) == plain + 1000


def test_a_format_needs_only_a_name_a_title_and_two_functions() -> None:
    """By default a decoder needs and keeps no further memory, and decodes the whole picture."""
    gif = load("gif")
    minimal = Format(gif.name, gif.title, gif.recognise, gif.open)
    data = sample("gif")
    image = minimal.open(data, MEMORY_MB)
    assert minimal.recognise(data)
    assert minimal.decoder_bytes(image, data, SIZE) == 0
    assert minimal.held_bytes(image, data) == 0
    assert minimal.max_scale(data) == 1
    assert minimal.reduces(image) is False
    assert minimal.orientation(image) == 1
    picture, box = minimal.decode(image, SIZE, 1)
    assert (picture.size, box) == (SIZE, (0, 0, *SIZE))
    assert is_upright(picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_by_default_the_orientation_is_that_of_exif(orientation: int) -> None:
    """All eight values are read."""
    jpeg = load("jpeg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = jpeg.open(encoded(quadrants(SIZE), "JPEG", exif=exif), MEMORY_MB)
    minimal = Format(jpeg.name, jpeg.title, jpeg.recognise, jpeg.open)
    assert minimal.orientation(image) == orientation


# --- output formats -----------------------------------------------------------------------------
every_picture = pytest.mark.parametrize(
    ("frames", "mode"),
    [(1, "RGB"), (1, "RGBA"), (3, "RGB"), (3, "RGBA")],
    ids=["still", "still with alpha", "animated", "animated with alpha"],
)


def encode(name: str, frames: int, mode: str, size: tuple[int, int] = SIZE) -> bytes:
    """Encode quadrants, rotated a little further in each frame, as the image code does."""
    pictures = []
    for number in range(frames):
        picture = quadrants(size).rotate(30 * number).convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(size))
            picture = picture.convert("RGBa")
        pictures.append(picture)
    return ENCODERS[name].encode(
        pictures, spec_of(name, size[0]), [100.0 + number for number in range(frames)], 0
    )


def spec_of(name: str, width: int = SIZE[0]) -> ThumbnailSpec:
    """Return a spec of this format."""
    return ThumbnailSpec(Size.of_width(width), 85, animated=True, format=name)


def frames_of(data: bytes) -> list[tuple[str, bytes, object]]:
    """Return mode, pixels and duration (ms) of each frame of a file."""
    return [
        (frame.mode, frame.tobytes(), frame.info.get("duration"))
        for frame in ImageSequence.Iterator(decoded(data))
    ]


def test_each_encoder_is_a_module_of_its_own() -> None:
    """No module of the package is forgotten in the registry."""
    names = {module.name for module in pkgutil.iter_modules(encoders.__path__)} - {"encoder"}
    assert {ENCODERS[name].encode.__module__.rpartition(".")[2] for name in OUTPUT_FORMATS} == names
    with pytest.raises(KeyError):
        ENCODERS["png"]


@every_encoder
@every_picture
def test_an_encoded_file_is_of_the_format_that_the_encoder_names(
    name: str, frames: int, mode: str
) -> None:
    """Pillow identifies it by its content, with the same media type and extension."""
    encoder = ENCODERS[name]
    image = decoded(encode(name, frames, mode))
    assert image.size == SIZE
    assert getattr(image, "n_frames", 1) == (frames if encoder.animates else 1)
    assert mode == "RGB" or image.has_transparency_data == encoder.has_alpha
    assert Image.MIME[str(image.format)] == encoder.content_type
    assert Image.registered_extensions()[f".{encoder.extension}"] == image.format


@every_encoder
@every_picture
@pytest.mark.parametrize("mark", [bytes(8), b"\xff" * 8, b"RIFFWEBP"], ids=["0", "255", "text"])
def test_a_marked_file_ends_with_its_mark_and_shows_the_same_picture(
    name: str, frames: int, mode: str, mark: bytes
) -> None:
    """Size, pixels and timing of every frame stay the same."""
    encoder = ENCODERS[name]
    data = encode(name, frames, mode)
    marked = encoder.mark(data, mark)
    assert marked.endswith(encoder.mark_ending(mark))
    assert mark in encoder.mark_ending(mark)
    assert decoded(marked).size == SIZE
    assert frames_of(marked) == frames_of(data)
    assert len(frames_of(data)) == (frames if encoder.animates else 1)


@every_encoder
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [SIZE, (1, 1), (3, 500), (2000, 1500)])
def test_the_size_of_a_thumbnail_is_in_its_first_bytes(
    name: str, mode: str, size: tuple[int, int]
) -> None:
    """HEAD_BYTES are enough, marked or not, and less never gives a wrong size."""
    encoder = ENCODERS[name]
    data = encode(name, 1, mode, size)
    for whole in (data, encoder.mark(data, bytes(8))):
        assert encoder.size_of(whole[:HEAD_BYTES]) == size
        assert {encoder.size_of(whole[:end]) for end in range(HEAD_BYTES)} <= {None, size}
    assert encoder.open(data).size == size


@every_encoder
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_nothing_but_pixels_is_encoded(name: str, mode: str) -> None:
    """A profile, EXIF, XMP, a comment and the resolution of the source do not leak."""
    picture = quadrants(SIZE).convert(mode)
    if mode == "RGBA":
        picture = picture.convert("RGBa")
    plain = ENCODERS[name].encode([picture], spec_of(name), [0.0], 0)
    secret = b"secret" * 10
    picture.info |= {"icc_profile": secret, "exif": secret, "xmp": secret, "comment": secret}
    picture.info |= {"dpi": (123, 123), "XML:com.adobe.xmp": "secret", "photoshop": {1: secret}}
    assert ENCODERS[name].encode([picture], spec_of(name), [0.0], 0) == plain
    assert b"secret" not in plain


@every_encoder
def test_a_higher_quality_has_more_bytes(name: str) -> None:
    """The spec's quality is the encoder's, from 1 to 100."""
    picture = Image.merge("RGB", [Image.effect_noise(SIZE, 60).rotate(90 * n) for n in range(3)])
    sizes = [
        len(ENCODERS[name].encode([picture], spec_of(name)._replace(quality=quality), [0.0], 0))
        for quality in (1, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


def test_the_mark_of_a_jpeg_is_a_comment_before_the_end_marker() -> None:
    """Not behind it, where programs cut off what they do not know."""
    data, jpeg = encode("jpeg", 1, "RGB"), ENCODERS["jpeg"]
    marked = jpeg.mark(data, b"12345678")
    assert marked == data.removesuffix(b"\xff\xd9") + b"\xff\xfe\x00\x0a12345678\xff\xd9"
    assert data.endswith(b"\xff\xd9")


def test_the_mark_of_an_avif_is_a_free_box_after_everything_else() -> None:
    """The boxes fill the file, and the last one has the mark."""
    marked = ENCODERS["avif"].mark(encode("avif", 1, "RGBA"), b"12345678")
    names, at = [], 0
    while at < len(marked):
        names.append(marked[at + 4 : at + 8])
        at += int.from_bytes(marked[at : at + 4])
    assert at == len(marked)
    assert names[0] == b"ftyp"
    assert names[-1] == b"free"
    assert marked.endswith(b"free12345678")


@pytest.mark.parametrize("background", ["#ffffff", "#102030"])
def test_transparency_is_put_on_the_background_in_jpeg(background: str) -> None:
    """Also where it is partial, as browsers blend it."""
    picture = Image.new("RGBA", SIZE, (200, 100, 0, 0))
    picture.paste((200, 100, 0, 128), (0, 0, 48, 64))
    spec = spec_of("jpeg")._replace(background=background)
    made = decoded(ENCODERS["jpeg"].encode([picture.convert("RGBa")], spec, [0.0], 0))
    behind = tuple(bytes.fromhex(background[1:]))
    half = tuple((a + b) // 2 for a, b in zip((200, 100, 0), behind, strict=True))
    assert near(made.getpixel((80, 32)), behind, 3)  # type: ignore[arg-type]
    assert near(made.getpixel((20, 32)), half, 5)  # type: ignore[arg-type]


def test_jpeg_is_progressive_and_avif_keeps_its_colour_samples() -> None:
    """As docs/images.md says."""
    image = decoded(encode("jpeg", 1, "RGB"))
    assert "progressive" in image.info
    data = encode("avif", 1, "RGB")
    flags = data[data.index(b"av1C") + 6]  # AV1-ISOBMFF, 2.3.3
    assert flags & 0b0000_1100 == 0


@every_encoder
@every_picture
def test_files_with_different_marks_are_different(name: str, frames: int, mode: str) -> None:
    """The etag is a digest of the bytes, so it differs between provenances of equal pictures."""
    encoder = ENCODERS[name]
    data = encode(name, frames, mode)
    marks = [bytes(7) + bytes([last]) for last in range(16)]
    assert len({encoder.mark(data, mark) for mark in marks}) == len(marks)
    assert len({encoder.mark_ending(mark) for mark in marks}) == len(marks)


@every_encoder
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("vertical", [False, True], ids=["wide", "high"])
def test_a_picture_may_have_the_maximum_side_of_its_format(
    name: str, mode: str, vertical: bool  # noqa: FBT001
) -> None:
    """A picture of `max_side` pixels in one direction is encoded, and can be marked."""
    encoder = ENCODERS[name]
    size = (2, encoder.max_side) if vertical else (encoder.max_side, 2)
    data = encode(name, 1, mode, size)
    assert decoded(data).size == size
    assert decoded(encoder.mark(data, bytes(8))).size == size


@every_encoder
def test_the_memory_estimate_grows_with_pixels_and_alpha(name: str) -> None:
    """It includes the picture itself, which has four bytes for each pixel."""
    memory_bytes = ENCODERS[name].memory_bytes
    for pixels in (1, 10_000, 100_000_000):
        opaque, with_alpha = (memory_bytes(pixels, alpha) for alpha in (False, True))
        assert 4 * pixels <= opaque <= with_alpha


# --- public names -------------------------------------------------------------------------------
def test_image_utils_is_the_public_name_of_the_image_code() -> None:
    """`from image_utils import make_thumbnails` gives the function of thumbnailer.imaging."""
    assert image_utils.__all__ == ["make_thumbnails"]
    assert image_utils.make_thumbnails is imaging.make_thumbnails


def test_the_image_code_exports_what_it_promises() -> None:
    """Every name in `__all__` exists."""
    assert all(hasattr(imaging, name) for name in imaging.__all__)
    assert "make_thumbnails" in imaging.__all__


def test_an_avif_is_decoded_by_one_thread_with_less_than_one_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More would only cost. With a whole CPU, Pillow takes as many as there are CPUs."""
    data, threads = sample("avif"), []
    decoder = AvifImagePlugin._avif.AvifDecoder  # noqa: SLF001

    def watched(data: bytes, codec: str, count: int) -> Any:
        threads.append(count)
        return decoder(data, codec, count)

    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 7)  # so that it is restored
    monkeypatch.setattr(AvifImagePlugin, "_avif", SimpleNamespace(AvifDecoder=watched))
    for memory_mb in (512, FULL_CPU_MB):
        load("avif").open(data, memory_mb)
    assert threads == [1, os.process_cpu_count()]
