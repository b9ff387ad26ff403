"""The targets of bench.engine, from its results."""

from collections.abc import Mapping
from typing import Any, Final

from bench.engine_inputs import (
    AS_PUBLISHED,
    CAMERA,
    FLOOR,
    JPEG_100,
    OURS,
    PER_SIZE,
    PHONE,
    PNG_50,
    PNG_ALPHA,
    PNG_PLAIN,
    SHARP_CHAIN,
    SHARP_PER_SIZE,
    WEBP,
)
from bench.target import Target, at_least, at_most

CPU: Final = (
    (AS_PUBLISHED, SHARP_CHAIN, 0.80),
    (PHONE, SHARP_CHAIN, 0.90),
    (CAMERA, SHARP_CHAIN, 0.90),
    (AS_PUBLISHED, FLOOR, 1.25),
    (PHONE, FLOOR, 1.25),
    (CAMERA, FLOOR, 1.25),
    (PHONE, SHARP_PER_SIZE, 0.60),
    (CAMERA, SHARP_PER_SIZE, 0.60),
    (PHONE, PER_SIZE, 0.22),
    (CAMERA, PER_SIZE, 0.22),
    (PNG_ALPHA, SHARP_CHAIN, 0.70),
    (PNG_PLAIN, SHARP_CHAIN, 0.85),
    (WEBP, SHARP_CHAIN, 0.95),
)
"""Kind of image, other engine, and this pipeline's CPU time as a maximum share of that engine's."""

SCORED: Final = (AS_PUBLISHED, PHONE, CAMERA, PNG_ALPHA, PNG_PLAIN, WEBP)
"""Kinds of image whose score must be at least that of sharp, chained."""

MEMORY: Final = (JPEG_100, PNG_50)
"""Kinds of image whose peak memory must be at most that of sharp, chained."""


def engine_targets(engine: Mapping[str, Any]) -> list[Target]:
    """The targets whose kinds of image and engines were measured."""
    by = {(each["case"], each["engine"]): each for each in engine["results"]}
    found = []
    for case, other, bound in CPU:
        ours, theirs = by.get((case, OURS)), by.get((case, other))
        if ours and theirs:
            ratio = ours["cpu_ms"]["median"] / theirs["cpu_ms"]["median"]
            limit = _where_the_time_goes(ours, by.get((case, FLOOR)), theirs)
            found.append(at_most(f"{case}: CPU ÷ {other}", ratio, bound, limit))
    for case in SCORED:
        ours, theirs = by.get((case, OURS)), by.get((case, SHARP_CHAIN))
        if ours and theirs and None not in (ours["score"], theirs["score"]):
            gap = round(ours["score"] - theirs["score"], 1)
            limit = (
                f"the score is {ours['score']:g}, and {theirs['score']:g} with {SHARP_CHAIN}, at "
                f"{ours['bytes'] / theirs['bytes']:.2f} times its bytes."
            )
            found.append(at_least(f"{case}: score − {SHARP_CHAIN}", gap, 0, limit))
    peaks = {(each["case"], each["engine"]): each for each in engine.get("memory", ())}
    for case in MEMORY:
        ours, theirs = peaks.get((case, OURS)), peaks.get((case, SHARP_CHAIN))
        if ours and theirs:
            ratio = ours["peak_mb"]["median"] / theirs["peak_mb"]["median"]
            limit = (
                f"{ours['peak_mb']['median']:.0f} MB, {ours['start_mb']:.0f} of them before it is "
                f"decoded (the program and the file). sharp has {theirs['peak_mb']['median']:.0f}, "
                f"{theirs['start_mb']:.0f} of them before."
            )
            found.append(at_most(f"{case}: peak memory ÷ {SHARP_CHAIN}", ratio, 1, limit))
    return found


def _where_the_time_goes(
    ours: Mapping[str, Any], floor: Mapping[str, Any] | None, theirs: Mapping[str, Any]
) -> str:
    """Say how much of our time the decoder and the encoder take."""
    cpu = ours["cpu_ms"]["median"]
    if floor is None:
        return (
            f"encoding takes {ours['encode_ms']:.0f} of {cpu:.0f} ms, as in every engine; the rest "
            "is decoding and resizing."
        )
    least = floor["cpu_ms"]["median"]
    if theirs is floor:
        return (
            f"{cpu - least:.0f} of {cpu:.0f} ms are neither decoding at the smallest scale nor "
            "encoding: a decode of more pixels for the quality, resizing, and reading the header."
        )
    return (
        f"the decoder and the encoder alone, which every engine needs, take {least:.0f} of "
        f"{cpu:.0f} ms (the floor). It would be met at "
        f"{theirs['cpu_ms']['median'] * _bound_of(ours['case'], theirs['engine']):.0f} ms."
    )


def _bound_of(case: str, other: str) -> float:
    return next(bound for name, engine, bound in CPU if (name, engine) == (case, other))
