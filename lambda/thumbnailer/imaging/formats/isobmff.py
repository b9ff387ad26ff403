"""The container of AVIF and HEIC files (ISO/IEC 14496-12)."""

from typing import Final

BRANDS_END: Final = 256
"""Bytes of a file in which brands are searched: real files name a handful."""

AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
"""A still picture and a sequence (https://aomediacodec.github.io/av1-avif/)."""

HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
"""ISO/IEC 23008-12, annex B and 10.2. An AVIF has some of them too, beside its own."""

AV1_SAMPLES: Final = (3.0, 3.0, 2.0, 1.5)
HEVC_SAMPLES: Final = (1.0, 1.5, 2.0, 3.0)
"""Samples for each pixel, by how colour is subsampled."""


def brands(data: bytes) -> set[bytes]:
    """Return the brands of a file (4.3); none for files that are not in this container."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), BRANDS_END)
    return {data[at : at + 4] for at in (8, *range(16, end, 4))}


def plane_bytes(data: bytes) -> float:
    """Return the bytes for each pixel of a picture's planes, those of alpha included.

    From the decoders' configurations: av1C (AV1-ISOBMFF 1.3, 2.3.3) and hvcC (ISO/IEC 14496-15,
    8.3.2.1.2).
    """
    planes: set[float] = set()
    for name in (b"av1C", b"hvcC"):
        at = data.find(name)
        while 0 <= at < len(data) - 22:
            if name == b"av1C":
                flags = data[at + 6]
                deep = flags & 0x40
                samples = 1.0 if flags & 0x10 else AV1_SAMPLES[flags >> 2 & 3]
            else:
                deep = data[at + 21] & 7
                samples = HEVC_SAMPLES[data[at + 20] & 3]
            planes.add(samples * (2 if deep else 1))
            at = data.find(name, at + 4)
    return sum(planes) or AV1_SAMPLES[3]
