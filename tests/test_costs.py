"""What a stack costs: every service that it uses, by its own settings, from published prices."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from home import Home

from image_pipeline.cli import targets
from image_pipeline.cli.commands import backfill
from image_pipeline.stack import costs
from image_pipeline.stack.backfill import Survey
from image_pipeline.stack.costs import Rates
from image_pipeline.stack.deployed import Stack
from thumbnailer.imaging import FULL_CPU_MB, Size, parse_sizes, thumbnail_spec
from thumbnailer.settings import Settings
from thumbnailer.storage.bucket import MAX_WRITERS

ROOT = Path(__file__).parent.parent
RATES = costs.Rates(512, "arm64", writes=2, duration_ms=158)
"""Of the default settings."""


SETTINGS = Settings("output", "https://sqs.example/1/dead-letters")
ALL = ("webp", "avif", "jpeg")
"""Every format."""


def stack(outputs: dict[str, str] | None = None, **parameters: str) -> Stack:
    """A deployed stack with these outputs and parameters."""
    aws = cast("Any", SimpleNamespace(endpoint_url="http://127.0.0.1:1"))
    return Stack(aws, "s", "input", "f", SETTINGS, "arm64", outputs or {}, parameters=parameters)


def stack_of(sizes: str = "128,512", formats: tuple[str, ...] = ALL, **settings: Any) -> Stack:
    """A stack without EventBridge, of these sizes, formats and other settings."""
    changed = SETTINGS._replace(sizes=parse_sizes(sizes), formats=formats, **settings)
    return replace(stack(OutputEvents="false"), settings=changed)


def results(name: str) -> Any:
    """What a benchmark measured last."""
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())


def test_every_price_has_a_source() -> None:
    """The first words of its name are those of a service whose price page is listed."""
    sources = costs.PRICES["sources"]
    prices = set(costs.PRICES) - {"as_of", "region", "currency", "sources"}
    assert len(prices) > 10
    for name in prices:
        assert any(name.startswith(f"{service}_") for service in sources), name
    assert all(
        re.fullmatch(r"https://aws\.amazon\.com/[a-z0-9-]+/pricing/", each)
        for each in sources.values()
    )


@pytest.mark.parametrize(
    ("outputs", "parameters", "settings"),
    [
        ({}, {"OutputEvents": "false"}, {}),
        ({}, {}, {"output_events": True}),
        ({}, {"OutputEvents": "true"}, {"output_events": True}),
        ({"UndeliveredEventsUrl": "u"}, {"OutputEvents": "false"}, {"input_events": True}),
        ({"KeyArn": "k"}, {"OutputEvents": "false"}, {"key": True}),
        (
            {"KeyArn": "k"},
            {"OutputEvents": "false", "CreateKmsKey": "true"},
            {"key": True, "own_key": True},
        ),
        ({}, {"OutputEvents": "false", "XRayTracing": "true"}, {"traced": True}),
        ({}, {"OutputEvents": "false", "LambdaProvisionedConcurrency": "3"}, {"provisioned": 3}),
    ],
)
def test_the_costs_follow_the_stack_s_own_settings(
    outputs: dict[str, str], parameters: dict[str, str], settings: dict[str, Any]
) -> None:
    """A stack of an earlier template has no OutputEvents, and sends the events."""
    expected = costs.Rates(512, "arm64", 2, 100, **settings)
    assert costs.Rates.of(stack(outputs, **parameters), 100) == expected


# --- sizes and formats ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sizes", "formats", "settings", "writes"),
    [
        ("128,512", ("webp",), {}, 2),
        ("128,512", ("webp", "avif"), {}, 4),
        ("128,512", ALL, {"write_manifest": True}, 7),
        ("128,avatar=256x256:cover:attention", ALL, {}, 6),
        ("512", ("jpeg",), {"write_manifest": True}, 2),
    ],
)
def test_each_size_in_each_format_is_one_write(
    sizes: str, formats: tuple[str, ...], settings: dict[str, bool], writes: int
) -> None:
    """The manifest is one more, and each write is one PUT, of an image, a backfill and a replay."""
    rates = Rates.of(stack_of(sizes, formats, **settings))
    assert rates.writes == writes
    assert costs.of_images(rates, 1000)["S3, writes"] == pytest.approx(writes * 0.005)
    fewer = replace(rates, writes=writes - 1)
    one_put = 0.005
    assert costs.of_replay(rates, 1000) - costs.of_replay(fewer, 1000) == pytest.approx(one_put)
    checked = [costs.of_backfill(each, 1000, 0) for each in (rates, fewer)]
    assert checked[0] - checked[1] == pytest.approx(0.0004)  # a HEAD
    made = [costs.of_backfill(each, 1000, 1000) for each in (rates, fewer)]
    assert made[0] - made[1] == pytest.approx(one_put + 0.0004)


def duration(*formats: str, sizes: str = "128,512", **settings: Any) -> float:
    """The billed duration that is estimated for a stack, in ms."""
    return Rates.of(stack_of(sizes, formats, **settings)).duration_ms


def test_the_duration_of_the_defaults_is_the_measured_one() -> None:
    """CPU_MS is what `make bench-function` billed last at 512 MB; then come two waits for S3."""
    billed = results("function")["latencies"][0]
    assert (billed["memory_mb"], billed["photo"]) == (512, "1 MB")
    assert billed["billed_ms"] * 512 / FULL_CPU_MB == pytest.approx(costs.CPU_MS, rel=0.02)
    assert duration("webp") == pytest.approx(
        costs.CPU_MS * FULL_CPU_MB / 512 + costs.WAIT_MS, rel=1e-6
    )


def test_a_format_adds_the_time_of_its_encoder_alone() -> None:
    """The photo is decoded once: three formats take less than three stacks of one format each."""
    cpu_ms = sum(costs.encoded(each).cpu_ms for each in stack_of(formats=("avif",)).settings.specs)
    assert duration("webp", "avif") - duration("webp") == pytest.approx(cpu_ms * FULL_CPU_MB / 512)
    assert duration(*ALL) < sum(duration(each) for each in ALL) - 2 * costs.WAIT_MS
    full = [duration(*formats, memory_mb=2048) for formats in (("webp",), ("webp", "avif"))]
    assert full[1] - full[0] == pytest.approx(cpu_ms)  # a whole CPU


@pytest.mark.parametrize("formats", [ALL[:2], ALL, ("avif",), ("jpeg",)])
def test_the_time_of_formats_grows_as_it_was_measured(formats: tuple[str, ...]) -> None:
    """Without waiting, as a multiple of WebP's: within a fifth of the function's CPU time.

    The function had one photo, which is not the mean of those that the encoders had.
    """
    measured = {each["formats"]: each["cpu_ms"] for each in results("function_formats")["events"]}
    estimated = [duration(*names) - costs.WAIT_MS for names in (formats, ("webp",))]
    assert estimated[0] / estimated[1] == pytest.approx(
        measured[" + ".join(formats)] / measured["webp"], rel=0.2
    )


@pytest.mark.parametrize(
    ("count", "formats", "waits"), [(1, ALL[:1], 2), (5, ALL, 2), (6, ALL, 3), (14, ALL, 4)]
)
def test_puts_wait_for_s3_together(
    monkeypatch: pytest.MonkeyPatch, count: int, formats: tuple[str, ...], waits: int
) -> None:
    """After one wait for the GET, sixteen PUTs make one wait. The manifest comes after them."""
    assert costs.PUTS_AT_ONCE == MAX_WRITERS
    sizes = ",".join(str(number) for number in range(1, count + 1))
    slow = [duration(*formats, sizes=sizes, write_manifest=each) for each in (False, True)]
    monkeypatch.setattr(costs, "WAIT_MS", 0.0)
    work = duration(*formats, sizes=sizes)
    assert [each - work for each in slow] == pytest.approx([waits * 10, (waits + 1) * 10])


def spec(size: str, name: str = "webp") -> Any:
    """One thumbnail."""
    return thumbnail_spec(parse_sizes(size)[0], name, 85, animated=True)


@pytest.mark.parametrize("name", ALL)
def test_bytes_and_times_of_the_encoders_are_the_measured_ones(name: str) -> None:
    """ENCODED has what `make bench-formats` measured last. The times depend on the machine.

    If it fails: copy the results.
    """
    measured = [each for each in results("format_bytes")["results"] if each["format"] == name]
    assert [(each["pixels"], each["bytes"]) for each in measured] == [
        (each.pixels, each.bytes) for each in costs.ENCODED[name]
    ]
    times = [each["cpu_ms"] for each in measured]
    assert times == pytest.approx([each.cpu_ms for each in costs.ENCODED[name]], rel=0.1)


@pytest.mark.parametrize("name", ALL)
def test_a_thumbnail_between_two_measured_ones_is_between_them(name: str) -> None:
    """At a measured number of pixels it is the measured one; smaller and larger ones continue."""
    widths = (16, 64, 128, 200, 256, 512, 700, 1024, 2048, 4096)
    made = [costs.encoded(spec(f"{width}x{width}", name)) for width in widths]
    for smaller, larger in pairwise(made):
        assert 0 < smaller.bytes < larger.bytes
        assert 0 < smaller.cpu_ms < larger.cpu_ms
    for each in costs.ENCODED[name]:
        at_a_point = thumbnail_spec(Size("row", each.pixels, 1), name, 85, animated=True)
        assert costs.encoded(at_a_point) == pytest.approx(each)


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("512", 512 * 512 * 2 / 3),
        ("256x256", 256 * 256),
        ("600x400:pad", 600 * 400),
        ("600x100:contain", 150 * 100),
        ("90x400:contain", 90 * 60),
    ],
)
def test_the_pixels_of_a_size_are_those_for_a_photo(size: str, pixels: float) -> None:
    """The photo is half as wide again as it is high, and large enough for any size."""
    assert costs.encoded(spec(size)).pixels == pytest.approx(pixels)


def test_stored_bytes_are_counted_by_format() -> None:
    """They are those of all sizes, in the order of the formats; a price is for a GB."""
    found = costs.bytes_by_format(stack_of(formats=("jpeg", "webp")).settings)
    assert list(found) == ["jpeg", "webp"]
    for name, size in found.items():
        assert size == sum(costs.encoded(spec(width, name)).bytes for width in ("128", "512"))
    assert costs.of_storage(2**30) == pytest.approx(0.023)
    assert costs.of_transfer(10**9) == pytest.approx(0.085)


@pytest.mark.parametrize("settings", [{}, {"sizes": "512"}, {"memory_mb": 1024}])
def test_a_format_has_paid_for_itself_at_its_break_even(settings: dict[str, Any]) -> None:
    """The views that save what its thumbnails cost: PUTs, time, and a year of storage.

    A view loads one size of AVIF instead of WebP, or of WebP instead of JPEG.
    """
    with_all = stack_of(**settings)
    size = costs.bytes_by_format(with_all.settings)
    found = costs.break_evens(with_all)
    assert {name: each.instead_of for name, each in found.items()} == {
        "avif": "webp",
        "webp": "jpeg",
    }
    for name, each in found.items():
        others = with_all.settings._replace(formats=tuple({*ALL} - {name}))
        rates = [Rates.of(one) for one in (with_all, replace(with_all, settings=others))]
        paid = [sum(costs.of_images(one, 1000).values()) / 1000 for one in rates]
        saved = costs.of_transfer(size[each.instead_of] - size[name])
        saved /= len(with_all.settings.sizes)
        cost = paid[0] - paid[1] + 12 * costs.of_storage(size[name])
        assert each.views * saved == pytest.approx(cost)


def test_the_only_format_has_no_break_even() -> None:
    """There is none beside it that viewers could get, and the largest one saves nothing."""
    assert costs.break_evens(stack_of(formats=("avif",))) == {}
    assert list(costs.break_evens(stack_of(formats=("jpeg", "webp")))) == ["webp"]


def cdn(found: Stack, **parameters: str) -> Stack:
    """The stack with a CDN in an account."""
    aws = cast("Any", SimpleNamespace(endpoint_url=None))
    outputs = {"ThumbnailsUrl": "https://d1.cloudfront.net"}
    return replace(found, aws=aws, outputs=outputs, parameters={**found.parameters, **parameters})


@pytest.mark.parametrize(
    ("formats", "parameters", "viewed"),
    [
        (("webp",), {}, "webp"),
        (ALL, {}, "avif"),
        (ALL, {"CdnFormats": "jpeg,webp"}, "webp"),
        (("jpeg", "webp"), {"CdnFormats": ""}, "webp"),
    ],
)
def test_a_view_is_a_request_two_runs_and_the_bytes_of_one_thumbnail(
    formats: tuple[str, ...], parameters: dict[str, str], viewed: str
) -> None:
    """In the smallest format that the CDN offers, each size as often as the other."""
    found = cdn(stack_of(formats=formats), **parameters)
    size = costs.bytes_by_format(found.settings)[viewed] / 2
    assert costs.of_views(found, 10**6) == pytest.approx(
        {
            "CloudFront, requests": 1.0,
            "CloudFront, function": 0.2,
            "CloudFront, transfer": costs.of_transfer(10**6 * size),
        }
    )


def test_urls_with_a_format_run_no_function() -> None:
    """Keys that do not end with `.{format}` are not negotiated (docs/adr/0030)."""
    plain = stack_of(formats=("webp",), output_key_template="{dir}{stem}_{size}")
    assert costs.of_views(cdn(plain), 1000)["CloudFront, function"] == 0


def test_each_output_of_an_image_is_a_path_to_invalidate() -> None:
    """Thumbnails and manifest, half a cent for each."""
    rates = Rates.of(stack_of(write_manifest=True))
    assert costs.of_invalidations(rates, 10) == pytest.approx(10 * 7 * 0.005)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command, whose options all mean a stack of three formats with a manifest."""
    found = stack_of(write_manifest=True)
    monkeypatch.setattr(targets, "find_stack", lambda **_: found)
    return Home(tmp_path, 1)


def test_the_command_shows_sizes_and_formats(home: Home) -> None:
    """It says what it counted, the storage of each format, and what pays for a format."""
    found = stack_of(write_manifest=True)
    shown = " ".join(home.run("cost").stdout.split())
    assert "7 writes per image (sizes × formats: 2 × 3, and the manifest)" in shown
    for name, size in costs.bytes_by_format(found.settings).items():
        assert f"{name} │ {costs.of_storage(size * 10_000):.4f}" in shown
    views = costs.break_evens(found)["avif"].views
    assert f"avif beside webp: {views:.0f} views of an image pay for making" in shown


def test_the_command_counts_cold_starts(home: Home) -> None:
    """One in a hundred images; each costs what its init takes at the memory of the stack."""
    answer = home.json("cost", "--images", "1000000")
    gb_seconds = 10_000 * math.ceil(costs.INIT_CPU_MS * FULL_CPU_MB / 512) / 1000 / 2
    price = costs.PRICES["lambda_gb_second"]["arm64"]
    assert answer["images_cost"]["Lambda, cold starts"] == pytest.approx(gb_seconds * price)
    shown = " ".join(home.run("cost", "--images", "1000000").stdout.split())
    assert f"10,000 cold starts, with an init of {costs.init_ms(512):.0f} ms each" in shown


def test_an_init_takes_as_long_as_it_was_measured_to() -> None:
    """On a whole CPU, by the last run of `bench.cold_start`; on a busy machine it takes longer."""
    ours = next(each for each in results("cold_start")["results"] if each["cpu"] is None)
    assert ours["function"] == "this pipeline"
    assert 0.5 < ours["init_ms"]["median"] / costs.INIT_CPU_MS < 2
    assert costs.init_ms(2 * FULL_CPU_MB) == costs.INIT_CPU_MS


def test_the_json_of_the_command_has_bytes_storage_and_break_even(home: Home) -> None:
    """By format; the storage is that of all images, and not in the total."""
    found = stack_of(write_manifest=True)
    answer = home.json("cost", "--images", "1000")
    sizes = costs.bytes_by_format(found.settings)
    assert answer["thumbnail_bytes"] == {name: round(size) for name, size in sizes.items()}
    assert answer["storage_month"] == pytest.approx(
        {name: costs.of_storage(1000 * size) for name, size in sizes.items()}
    )
    assert answer["total"] == pytest.approx(sum(answer["images_cost"].values()))
    assert answer["break_even_views"]["webp"] == pytest.approx(
        costs.break_evens(found)["webp"]._asdict()
    )


def test_the_command_shows_the_cdn_of_the_stack(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 views without an option, what is free, and invalidations where they are made."""
    found = cdn(stack_of(distribution="E1"))
    monkeypatch.setattr(targets, "find_stack", lambda **_: found)
    answer = home.json("cost")
    assert answer["views"] == 100_000
    assert answer["cdn_month"] == pytest.approx(costs.of_views(found, 100_000))
    paths = costs.of_invalidations(Rates.of(found), 10_000)
    assert answer["operations"]["invalidation"] == pytest.approx(paths)
    shown = " ".join(home.run("cost", "--views", "5000000").stdout.split())
    for name, dollars in costs.of_views(found, 5_000_000).items():
        assert f"{name} │ {dollars:.4f}" in shown
    assert "5,000,000 views with the CDN" in shown
    assert "not subtracted: 1 TB of transfer, 10 million requests" in shown
    assert f"Invalidations, if 10,000 images are replaced or deleted │ {paths:.4f}" in shown


def test_a_stack_without_a_cdn_has_views_only_if_they_are_asked_for(home: Home) -> None:
    """Its own estimate is as before; with --views it is what a CDN would cost."""
    answer = home.json("cost")
    assert (answer["views"], answer["cdn_month"]) == (None, {})
    assert "invalidation" not in answer["operations"]
    assert "CloudFront" not in home.run("cost").stdout
    assert "1,000 views with a CDN" in " ".join(home.run("cost", "--views", "1000").stdout.split())


def test_a_backfill_of_crops_reads_the_focus_of_each_image() -> None:
    """One more HEAD request for an image: a listing tells no metadata."""
    focus = costs.of_backfill(replace(RATES, focus=True), 1000, 0)
    assert focus - costs.of_backfill(RATES, 1000, 0) == pytest.approx(0.0004, rel=1e-6)


def test_a_backfill_shows_sizes_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """Before it asks, beside the dollars that are estimated from them."""
    found = replace(stack_of(), outputs={"BackfillMaximum": "10"})
    survey = Survey(objects=1000, to_make=1000)
    backfill.show_survey(found, "uploads/", survey, None)
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 × 3 thumbnails per image (sizes × formats" in shown
    assert f"${costs.of_backfill(Rates.of(found), 1000, 1000):.4f}" in shown


def test_the_measured_formats_share_one_decode_and_wait_for_s3_twice() -> None:
    """What docs/performance.md says of the last run of `bench.function_formats`."""
    measured = results("function_formats")
    assert measured["one_decode"]["together"] < 0.8 * measured["one_decode"]["added"]
    for each in measured["events"]:
        names = each["formats"].split(" + ")
        assert each["requests"] == {"GET": 1, "PUT": 2 * len(names)}
    for formats in (ALL[:1], ALL):
        p50 = {
            each["wait_ms"]: each["p50"]
            for each in measured["waiting"]
            if each["formats"] == " + ".join(formats)
        }
        assert (p50[100] - p50[0]) / 100 == pytest.approx(2, abs=0.5)


# --- the documentation ---------------------------------------------------------------------------
def documented() -> dict[str, list[float]]:
    """The table of docs/deploy.md: what → the dollars that it adds."""
    section = (ROOT / "docs" / "deploy.md").read_text().partition("## Cost")[2]
    rows = re.findall(r"^\| (.*?) \| (.*?) \| .*\|$", section.partition("\n### ")[0], re.MULTILINE)
    return {
        what.strip("`"): [float(each) for each in re.findall(r"\$([\d.]+)", adds)]
        for what, adds in rows[1:]
    }


def test_the_documented_costs_are_those_of_the_command() -> None:
    """Each row of the table, as it is shown: to a hundredth of a cent, or a cent a month."""

    def added(**settings: Any) -> float:
        more = costs.of_images(replace(RATES, **settings), 10_000)
        return sum(more.values()) - sum(costs.of_images(RATES, 10_000).values())

    kept = costs.of_stack(replace(RATES, own_key=True, provisioned=1))
    assert documented() == {
        "ExistingInputBucket=true": [round(added(input_events=True), 4)],
        "OutputEvents=true": [round(added(output_events=True), 4)],
        "CreateKmsKey=true": [kept["KMS, key"], round(added(key=True), 4)],
        "XRayTracing=true": [round(added(traced=True), 4)],
        "1,000,000 views through the CDN": [
            round(each, 2) for each in costs.of_views(stack(), 10**6).values()
        ],
        "CdnInvalidate=true": [costs.of_invalidations(RATES, 1)],
        "LambdaProvisionedConcurrency=1": [round(kept["Lambda, provisioned concurrency"], 2)],
        "10,000 cold starts": [round(costs.of_cold_starts(RATES, 10_000), 4)],
        "A replay of 1,000 messages": [round(costs.of_replay(RATES, 1000), 4)],
        "A backfill of 10,000 images that are up to date": [
            round(costs.of_backfill(RATES, 10_000, 0), 4)
        ],
        "A backfill of 10,000 images that are missing": [
            round(costs.of_backfill(RATES, 10_000, 10_000), 4)
        ],
    }


NAMES = {"webp": "WebP", "avif": "AVIF", "jpeg": "JPEG"}


def row_of_formats(*formats: str) -> str:
    """A row of the first table in docs/deploy.md, "Several formats"."""
    found = stack_of(formats=formats)
    rates = Rates.of(found)
    stored = sum(map(costs.of_storage, costs.bytes_by_format(found.settings).values()))
    paid = [f"{NAMES[name]} {each.views:.0f}" for name, each in costs.break_evens(found).items()]
    return (
        f"| `{','.join(formats)}` | {rates.duration_ms:.0f} ms "
        f"| ${sum(costs.of_images(rates, 10_000).values()):.4f} | ${10_000 * stored:.4f} "
        f"| {'; '.join(paid) or '–'} |"
    )


def row_of_width(width: int) -> str:
    """A row of the second table there."""
    found = stack_of(str(width), ("webp", "avif"))
    size = costs.bytes_by_format(found.settings)
    paid = f"{costs.break_evens(found)['avif'].views:.0f}"
    return f"| {width:,} | {size['webp']:,.0f} bytes | {size['avif']:,.0f} bytes | {paid} |"


def test_the_documented_formats_are_those_of_the_command() -> None:
    """Both tables of "Several formats" in docs/deploy.md, row by row."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    section = page.partition("### Several formats")[2].partition("\n## ")[0]
    expected = [
        *(row_of_formats(*each) for each in (ALL[:1], ("avif",), ALL[:2], ("webp", "jpeg"), ALL)),
        *(row_of_width(each) for each in (128, 512, 1024, 2048)),
    ]
    rows = [line for line in section.splitlines() if re.match(r"\| [`\d]", line)]
    assert rows == expected


@pytest.mark.parametrize(
    ("name", "path", "transitions"),
    [
        (
            "replay",
            ["Another", "Receive", "Received", "Replay", "Replayed", "Delete", "Count"],
            costs.REPLAY_TRANSITIONS,
        ),
        ("backfill", ["Begin", "Batch", "Rest", "Whole"], costs.BATCH_TRANSITIONS - 1),
    ],
)
def test_transitions_are_those_of_the_state_machines(
    name: str, path: list[str], transitions: int
) -> None:
    """Of a message that is settled, and of a batch, whose start is one more."""
    text = (ROOT / "iac" / f"{name}.asl.json").read_text()
    machine = json.loads(re.sub(r"\$\{(Maximum|Concurrency|LambdaTimeout)\}", "1", text))
    (inner,) = (
        each["ItemProcessor"]["States"]
        for title, each in machine["States"].items()
        if title in ("Lanes", "Images")
    )
    for state, following in pairwise(path):
        ways = [inner[state].get("Next"), inner[state].get("Default")]
        ways += [each["Next"] for each in inner[state].get("Choices", [])]
        assert following in ways
    assert len(path) == transitions
