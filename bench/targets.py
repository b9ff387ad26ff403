"""The targets, what was measured, and what limits those that are missed.

Every text is made from the results of the last run. What limits a target is only said where it is
missed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.cold_start import LAMBDA_SHARE
from bench.engine_inputs import OURS
from bench.engine_targets import engine_targets
from bench.target import Target, at_least, at_most
from bench.thumbs import ENGINE as IMAGE_CODE
from bench.thumbs import OURS as THUMBS
from bench.thumbs import SHARP_CLI, VIPS

COMPILED: Final = "usual handler, with .pyc"

INIT, FIRST_IMAGE = 0.30, 0.45
"""Maximum shares of the usual handler's, with .pyc, at LAMBDA_SHARE."""

INIT_MS, COLD_START_MS = 75, 250
"""At full CPU."""

BILLED_MS: Final = {"1 MB": 120, "4 MB": 180}
"""Of a JPEG, warm, at 512 MB."""

IMAGES_A_MINUTE: Final = 2000
TOTAL_DOLLARS, LAMBDA_DOLLARS = 0.13, 0.012
"""Of 10,000 images."""

THUMBS_CPU, THUMBS_WALL = 1.0, 0.60
"""Maximum shares of the CPU and wall time of another tool at equal quality."""

WEBP_AND_AVIF: Final = 3.0
"""CPU time of both formats as a multiple of WebP's alone."""


def targets(results: Mapping[str, Any]) -> list[Target]:
    """All targets, from the content of the results files by their names."""
    return [
        *engine_targets(results["engine"]),
        *_of_starts(results["cold_start"]),
        *_of_function(results["function"], results["function_formats"]),
        *_of_thumbs(results["thumbs"]),
    ]


# --- the function -------------------------------------------------------------------------------
def _of_starts(cold: Mapping[str, Any]) -> list[Target]:
    starts = {(each["cpu"], each["function"]): each for each in cold["results"]}
    parts = {(each["cpu"], each["function"]): each["ms"] for each in cold["parts"]}
    found = []
    if (LAMBDA_SHARE, OURS) in starts:
        ours, plain = starts[LAMBDA_SHARE, OURS], starts[LAMBDA_SHARE, COMPILED]
        for what, name, bound, limit in (
            ("init", "init_ms", INIT, _parts_of_init),
            ("first image", "first_event_ms", FIRST_IMAGE, _parts_of_first_image),
        ):
            ratio = ours[name]["median"] / plain[name]["median"]
            title = f"{what} ÷ usual handler's with .pyc, {LAMBDA_SHARE} vCPU"
            found.append(at_most(title, ratio, bound, limit(parts[LAMBDA_SHARE, OURS])))
    full = starts[None, OURS]
    slow = _parts_of_init(parts[None, OURS])
    return [
        *found,
        at_most(
            "cold start with first image at full CPU, ms",
            full["cold_start_ms"]["median"],
            COLD_START_MS,
            slow,
        ),
        at_most("init at full CPU, ms", full["init_ms"]["median"], INIT_MS, slow),
    ]


def _parts_of_init(ms: Mapping[str, float]) -> str:
    interpreter, client, handler = list(ms.values())[:3]
    return (
        f"Python takes {interpreter:.0f} ms to start, AWS's runtime client {client:.0f}, and the "
        f"handler with its imports {handler:.0f}. The first two are the same for every function."
    )


def _parts_of_first_image(ms: Mapping[str, float]) -> str:
    first, following = list(ms.values())[-2:]
    return (
        f"the next image takes {following:.0f} ms, {following / first:.0%} of the first one. The "
        "rest happens once: connections, threads, the first pages of libraries."
    )


def _of_function(function: Mapping[str, Any], several: Mapping[str, Any]) -> list[Target]:
    at_512 = {
        each["photo"]: each
        for each in function["latencies"]
        if each["memory_mb"] == 512  # noqa: PLR2004
    }
    events = {each["formats"]: each for each in several["events"]}
    webp, both = events["webp"], events["webp + avif"]
    ratio = both["cpu_ms"] / webp["cpu_ms"]
    cheapest = function["cheapest"]
    return [
        *(
            at_most(
                f"billed time of a JPEG of {photo}, warm, 512 MB, ms",
                at_512[photo]["billed_ms"],
                bound,
                f"these are {at_512[photo]['billed_ms'] * LAMBDA_SHARE:.0f} ms of a whole CPU; "
                f"{bound} ms would be {bound * LAMBDA_SHARE:.0f}.",
            )
            for photo, bound in BILLED_MS.items()
        ),
        at_least(
            "images per minute at concurrency 10",
            function["at_concurrency_10"],
            IMAGES_A_MINUTE,
            f"one environment makes {function['at_concurrency_10'] / 10:.0f}.",
        ),
        at_most(
            "cost of 10,000 images, total, $",
            cheapest["total"],
            TOTAL_DOLLARS,
            f"Lambda is {cheapest['function'] / cheapest['total']:.0%} of it.",
        ),
        at_most(
            "cost of 10,000 images, Lambda, $",
            cheapest["function"],
            LAMBDA_DOLLARS,
            f"{cheapest['billed_ms']:.0f} ms are billed for an image.",
        ),
        at_most(
            "2 sizes in WebP and AVIF: CPU ÷ WebP's alone",
            ratio,
            WEBP_AND_AVIF,
            f"AVIF adds {both['cpu_ms'] - webp['cpu_ms']:.0f} ms to {webp['cpu_ms']:.0f}.",
        ),
    ]


# --- thumbs -------------------------------------------------------------------------------------
def _of_thumbs(thumbs: Mapping[str, Any]) -> list[Target]:
    rows: Sequence[Mapping[str, Any]] = thumbs["tools"]
    code = next((each for each in rows if each["tool"] == IMAGE_CODE), None)
    found = []
    kinds: tuple[tuple[str, str, float], ...] = (
        ("CPU", "ours_cpu_ratio", THUMBS_CPU),
        (f"wall time on {thumbs['cores']} cores", "ours_wall_ratio", THUMBS_WALL),
    )
    for kind, name, bound in kinds:
        for row in rows:
            if row["tool"] not in (VIPS, SHARP_CLI):
                continue
            ours = next(
                each for each in rows if (each["tool"], each["widths"]) == (THUMBS, row["widths"])
            )
            limit = f"`thumbs` takes {ours['cpu_ms']:.0f} ms of CPU time for a picture"
            if code and code["widths"] == row["widths"]:
                limit += f", its image code {code['cpu_ms']:.0f} of them"
            limit += f", and {row['tool']} {row['cpu_ms']:.0f}. So it would reach "
            limit += f"{ours['cpu_ms'] / row['cpu_ms']:.2f} if both kept all cores busy."
            what = f"thumbs, {widths(row)}: {kind} ÷ {row['tool']}, equal quality"
            found.append(at_most(what, row[name], bound, limit))
    return found


def widths(row: Mapping[str, Any]) -> str:
    """The widths of a row of bench.thumbs, in words."""
    return " and ".join(map(str, row["widths"]))


def limits(found: Sequence[Target]) -> dict[str, str]:
    """What limits each target that is missed."""
    return {each.what: each.limit for each in found if not each.met}
