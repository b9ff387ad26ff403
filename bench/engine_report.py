"""Writes the results of bench.engine as a Markdown page."""

from typing import Any, Final

type Results = dict[str, Any]
"""The content of bench/results/engine.json, or a part of it."""


def markdown(found: Results) -> str:
    """A page with the targets, and tables of CPU, quality, memory and bytes by image and engine."""
    machine = found["machine"]
    widths = " and ".join(map(str, found["widths"]))
    load = " to ".join(f"{each:g}" for each in found["load"])
    on = f"{machine['cpu']}, {machine['architecture']}, {machine['cores']} cores"
    intro = f"""# Comparison of image engines

`make bench-engine` writes this page. Do not edit it by hand.

Thumbnails {widths} pixels wide, WebP quality {found['quality']}, method 4. {found['rounds']} rounds
in turns on one core ({on}), {found['measured'][:10]}, at a load of {load}. Compare numbers within a
table, as ratios.

![CPU time of each engine as a multiple of this pipeline's, by kind of image](engine.svg)

"Floor" decodes a JPEG at the smallest scale and encodes finished thumbnails: no engine built on
libjpeg-turbo and libwebp can be faster. "Chained" engines make each width from the next larger one.

| target | bound | measured | |
|---|---|---|---|"""
    lines = [intro]
    for target in found["targets"]:
        verdict = "met" if target["met"] else "**missed**"
        lines.append(f"| {target['what']} | {target['bound']} | {target['measured']} | {verdict} |")
    lines += _limits(found["targets"])
    lines += _table(found, "CPU time of all threads in ms: median (quartiles)", _cpu)
    lines += _table(
        found, "Quality of the largest thumbnail: SSIMULACRA 2 (100: like the reference)", _score
    )
    lines += _table(
        found, "Peak memory of a fresh process in MB", lambda row: f"{row['peak_mb']:.0f}"
    )
    lines += _large(found["memory"])
    lines += _table(found, "Size of the thumbnails in bytes", lambda row: f"{row['bytes']:,}")
    lines += ["", "## Images", ""]
    lines += [f"- {case['case']}: {case['source']}" for case in found["cases"]]
    lines += [
        "",
        "The reference is scaled from all pixels by Lanczos in floating point, in one step.",
        PROCESSES_DIFFER,
        "",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join([*lines, f"Versions: {versions}.", ""])


def _limits(targets: list[Results]) -> list[str]:
    missed = [target for target in targets if not target["met"]]
    if not missed:
        return []
    lines = ["", "What limits the missed targets:", ""]
    return lines + [f"- {target['what']}: {target['limit']}" for target in missed]


def _large(peaks: list[Results]) -> list[str]:
    """A table of the memory at large images: a row per image, a column per engine."""
    if not peaks:
        return []
    engines = list(dict.fromkeys(peak["engine"] for peak in peaks))
    lines = [
        "",
        "With large images, median (quartiles) of fresh processes, and before decoding:",
        "",
        f"| | {' | '.join(engines)} |",
        "|---" * (len(engines) + 1) + "|",
    ]
    for case in dict.fromkeys(peak["case"] for peak in peaks):
        by = {peak["engine"]: peak for peak in peaks if peak["case"] == case}
        cells = [_peak(by[engine]) if engine in by else "cannot" for engine in engines]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def _peak(peak: Results) -> str:
    mb = peak["peak_mb"]
    return f"{mb['median']:.0f} ({mb['q1']:.0f}–{mb['q3']:.0f}); {peak['start_mb']:.0f} before"


def _cpu(row: Results) -> str:
    cpu = row["cpu_ms"]
    return f"{cpu['median']:.0f} ({cpu['q1']:.0f}–{cpu['q3']:.0f})"


def _score(row: Results) -> str:
    return "" if row["score"] is None else f"{row['score']:.1f}"


def _table(found: Results, title: str, cell: Any) -> list[str]:
    engines = _engines(found)
    by = {(row["case"], row["engine"]): row for row in found["results"]}
    lines = [
        "",
        f"## {title}",
        "",
        f"| | {' | '.join(engines)} |",
        "|---" * (len(engines) + 1) + "|",
    ]
    for case in found["cases"]:
        cells = []
        for engine in engines:
            row = by.get((case["case"], engine))
            cells.append(cell(row) if row else "cannot")
        lines.append(f"| {case['case']} | {' | '.join(cells)} |")
    return lines


def _engines(found: Results) -> list[str]:
    return list(dict.fromkeys(row["engine"] for row in found["results"]))


PROCESSES_DIFFER: Final = """Each engine runs in one process per kind of image. Processes of the
same engine differ by up to 3 % at large PNGs; quartiles, of rounds in one process, hide that."""
