"""Colour that is described by numbers: code points (ITU-T H.273), and PNG's gAMA and cHRM.

Every curve for a standard dynamic range becomes an ICC profile, which `colour` converts like a
profile from a file. `tone_map` converts PQ and HLG.
"""

import struct
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

type Vector = tuple[float, float, float]
type Matrix = tuple[Vector, Vector, Vector]

type Point = tuple[float, float]
"""Chromaticity, x and y of CIE 1931."""

type Chromaticities = tuple[Point, Point, Point, Point]
"""Of white, red, green and blue."""

type Curve = tuple[float, float, float, float, float]
"""g, a, b, c and d: light is (a V + b)^g from V = d on, and c V below (ICC.1:2022, 10.18)."""

D65: Final = (0.3127, 0.3290)
C: Final = (0.310, 0.316)

PRIMARIES: Final[dict[int, Chromaticities]] = {
    1: (D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709, sRGB
    4: (C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),  # BT.470 M
    5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),  # BT.601 with 625 lines
    6: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # BT.601 with 525 lines
    7: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # SMPTE 240M
    8: (C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),  # film
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI P3
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
    22: (D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),  # EBU Tech 3213
}
"""By ColourPrimaries (H.273, table 2)."""

BT709, SRGB = 1, 13
"""Code points of sRGB (IEC 61966-2-1)."""

PQ, HLG = 16, 18
"""TransferCharacteristics of a high dynamic range (ITU-R BT.2100)."""

NOMINAL_PEAK: Final = 1000.0
"""HLG's, in cd/m² (BT.2100, note 5f). It is also taken for PQ where the file says none."""

BT1886_CURVE: Final = (2.4, 1, 0, 0, 0)
"""How a screen shows BT.709 (ITU-R BT.1886, without black level). The camera's curve is another."""

SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
CURVES: Final[dict[int, Curve]] = {
    1: BT1886_CURVE,
    4: (2.2, 1, 0, 0, 0),
    5: (2.8, 1, 0, 0, 0),
    6: BT1886_CURVE,
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),  # SMPTE 240M
    8: (1, 1, 0, 0, 0),
    11: BT1886_CURVE,  # its extension below 0 and above 1 does not fit into samples of a PNG
    13: SRGB_CURVE,
    14: BT1886_CURVE,
    15: BT1886_CURVE,
}
"""By TransferCharacteristics (H.273, table 3)."""

SHOWN_AS_SRGB: Final = (1, 6, 11, 14, 15)
"""Transfers of BT.709's shape, which browsers show as sRGB in AVIF: cameras and encoders write 1
for pictures in sRGB. In PNG, browsers follow the number."""

MATRICES: Final = (0, 1, 2, 4, 5, 6, 7, 8, 9)
"""MatrixCoefficients (H.273, table 4) beside which Chromium uses the other numbers. Beside others,
such as those that are derived from the primaries (12), it takes the picture for sRGB."""

NEARLY_SRGB: Final = 0.05
"""How far gAMA times 2.2 may be from 1 to mean sRGB, where no cHRM stands beside it. From Skia,
whose PNG decoder is Chromium's."""

D50: Final = (0.9642, 1.0, 0.8249)
"""XYZ of the white of profiles (ICC.1:2022, 7.2.16)."""

BRADFORD: Final[Matrix] = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)
"""XYZ → the response of cones, in which white is adapted (ICC.1:2022, E.2)."""


class Cicp(NamedTuple):
    """Colour as code points: ColourPrimaries, TransferCharacteristics. Both are known here.

    `peak` is the luminance of the brightest pixel in cd/m²; it counts for PQ and HLG.
    """

    primaries: int
    transfer: int
    peak: float = NOMINAL_PEAK

    @property
    def is_hdr(self) -> bool:
        """Whether the picture must be tone-mapped."""
        return self.transfer in (PQ, HLG)


def from_png(chunk: bytes) -> Cicp | None:
    """Read a cICP chunk; None where it says nothing that counts.

    Like browsers, it counts if both numbers are known, for RGB of the full range (PNG, third
    edition, 11.3.2.6).
    """
    if len(chunk) != 4 or tuple(chunk[2:]) != (0, 1):  # noqa: PLR2004 - four numbers
        return None
    return _known(Cicp(chunk[0], chunk[1]))


def from_nclx(primaries: int, transfer: int, matrix: int, peak: float | None) -> Cicp | None:
    """Return the code points of a HEIC or AVIF as browsers take them; None where that is sRGB.

    Primaries and transfers that are unspecified or unknown count as those of sRGB.
    """
    if matrix not in MATRICES:
        return None
    known = Cicp(
        primaries if primaries in PRIMARIES else BT709,
        SRGB if transfer in SHOWN_AS_SRGB else transfer,
        peak or NOMINAL_PEAK,
    )
    return _known(known) or _known(known._replace(transfer=SRGB))


def _known(numbers: Cicp) -> Cicp | None:
    known = numbers.primaries in PRIMARIES and (numbers.is_hdr or numbers.transfer in CURVES)
    return numbers if known and numbers[:2] != (BT709, SRGB) else None


def profile_of(numbers: Cicp) -> bytes:
    """Build the ICC profile of code points that are not HDR."""
    return profile(PRIMARIES[numbers.primaries], CURVES[numbers.transfer])


def profile_of_gamma(gamma: float, chromaticities: tuple[float, ...] | None) -> bytes | None:
    """Build the ICC profile of gAMA, and of cHRM: x and y of white, red, green and blue.

    None where they mean sRGB, or nothing.
    """
    if not gamma or (chromaticities is None and abs(2.2 * gamma - 1) <= NEARLY_SRGB):
        return None
    values = chromaticities or tuple(chain.from_iterable(PRIMARIES[BT709]))
    points = tuple(zip(values[::2], values[1::2], strict=True))
    try:
        return profile(points, (1 / gamma, 1, 0, 0, 0))  # type: ignore[arg-type]
    except (ArithmeticError, struct.error):  # no colours, or numbers too large for a profile
        return None


def profile(chromaticities: Chromaticities, curve: Curve) -> bytes:
    """Build a matrix profile of version 4 (ICC.1:2022, 8.3.3).

    Raises ZeroDivisionError or struct.error for chromaticities that span no colours.
    """
    name = _text("From numbers")
    shape = b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *map(_fixed, curve))
    tags = {b"desc": name, b"cprt": name, b"wtpt": _xyz(D50)}
    columns = zip(*_to_d50(chromaticities), strict=True)
    for channel, column in zip("rgb", columns, strict=True):
        tags[f"{channel}XYZ".encode()] = _xyz(column)
        tags[f"{channel}TRC".encode()] = shape
    start = 128 + 4 + 12 * len(tags)
    table, body = len(tags).to_bytes(4), b""
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4x4s4s4s4s", start + len(body), b"\4\x40", b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s28x3i", 2026, 1, 1, 0, 0, 0, b"acsp", *map(_fixed, D50))
    return head.ljust(128, b"\0") + table + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _xyz(values: Vector) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *map(_fixed, values))


def _fixed(value: float) -> int:
    return round(value * 65536)


@cache
def between(source: int, target: int) -> Matrix:
    """Return the matrix of linear RGB in one set of PRIMARIES to another, white to white."""
    return _product(_inverse(_to_d50(PRIMARIES[target])), _to_d50(PRIMARIES[source]))


def luminances(primaries: int) -> Vector:
    """Return how much red, green and blue add to the luminance of white, which is 1."""
    return _to_xyz(PRIMARIES[primaries])[1]


def _to_d50(chromaticities: Chromaticities) -> Matrix:
    """Return the matrix of linear RGB to XYZ, its white adapted to D50 by Bradford's method."""
    white = _response(_xyz_of(chromaticities[0]))
    scales = [to / of for to, of in zip(_response(D50), white, strict=True)]
    scaled = tuple(
        tuple(scale * value for value in row) for scale, row in zip(scales, BRADFORD, strict=True)
    )
    adapted = _product(_inverse(BRADFORD), scaled)  # type: ignore[arg-type]
    return _product(adapted, _to_xyz(chromaticities))


def _response(xyz: Vector) -> Vector:
    return _applied(BRADFORD, xyz)


def _to_xyz(chromaticities: Chromaticities) -> Matrix:
    """Return the matrix of linear RGB to XYZ (SMPTE RP 177)."""
    white, *primaries = map(_xyz_of, chromaticities)
    matrix: Matrix = tuple(zip(*primaries, strict=True))  # type: ignore[assignment]
    scales = _applied(_inverse(matrix), white)
    return tuple(  # type: ignore[return-value]
        tuple(value * scale for value, scale in zip(row, scales, strict=True)) for row in matrix
    )


def _xyz_of(point: Point) -> Vector:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _applied(matrix: Matrix, vector: Vector) -> Vector:
    return tuple(  # type: ignore[return-value]
        sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix
    )


def _product(left: Matrix, right: Matrix) -> Matrix:
    columns = [_applied(left, column) for column in zip(*right, strict=True)]
    return tuple(zip(*columns, strict=True))  # type: ignore[return-value]


def _inverse(matrix: Matrix) -> Matrix:
    """Invert by cofactors. Raises ZeroDivisionError where the rows depend on each other."""
    first, second, third = matrix
    columns = _cross(second, third), _cross(third, first), _cross(first, second)
    determinant = sum(a * b for a, b in zip(first, columns[0], strict=True))
    return tuple(  # type: ignore[return-value]
        tuple(value / determinant for value in row) for row in zip(*columns, strict=True)
    )


def _cross(left: Vector, right: Vector) -> Vector:
    (a, b, c), (d, e, f) = left, right
    return b * f - c * e, c * d - a * f, a * e - b * d
