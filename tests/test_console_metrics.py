"""The console's metrics: what they count, what they say if it is unknown, and the page with charts.

CloudWatch and its logs are moto's, with data that the tests put there.
"""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aws_names import INPUT
from botocore.exceptions import ClientError
from console_server import Pages, address, serving
from hypothesis import given
from hypothesis import strategies as st
from moto_stack import (
    let_moto_have_percentiles,
    moto_stack,
    put_failed,
    put_log,
    put_metrics,
    put_processed,
)
from playwright.sync_api import Browser, Page, expect

from image_pipeline.console import metrics as module
from image_pipeline.console.charts import MIN_BAR, Chart, axis, charts, compact, dollars
from image_pipeline.console.metrics import SPANS, Metrics
from image_pipeline.stack import aws as aws_module
from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer import telemetry
from tools import browser as chromium

MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC).replace(second=40)
"""When the metrics are read, for the console. A minute may end during a test."""

IMPATIENT = Aws.impatient


@pytest.fixture
def stack(s3: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack without metrics, in a CloudWatch that has percentiles."""
    del s3  # it has created the buckets
    let_moto_have_percentiles(monkeypatch)
    # The console's clients are then those of the test, which can refuse requests.
    monkeypatch.setattr(Aws, "impatient", lambda self: self)
    monkeypatch.setattr(module, "time", NOW.timestamp)
    return moto_stack(aws)


def deny(client: Any, operation: str) -> None:
    """Answer requests of a client as AWS does without the permission."""

    def refuse(**_: object) -> None:
        error = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
        raise ClientError(error, operation)  # type: ignore[arg-type]

    client.meta.events.register(
        f"provide-client-params.{client.meta.service_model.service_id.hyphenize()}.{operation}",
        refuse,
    )


def half_past(minutes_ago: int) -> datetime:
    """The middle of a minute: 0 is the minute that is not over yet."""
    return NOW.replace(second=30) - minutes_ago * MINUTE


# --- what is counted ----------------------------------------------------------------------------
def test_a_summary_is_that_of_its_range(stack: Stack) -> None:
    """Counts, percentiles, bytes and cost are those of the values within each range."""
    for minutes_ago, milliseconds in ((20, 100), (10, 300), (180, 500), (3000, 900)):
        put_processed(stack, half_past(minutes_ago), milliseconds)
    put_metrics(stack, half_past(20), cold_starts=2)
    found = {name: Metrics(stack, span).read() for name, span in SPANS.items()}
    assert {name: each.totals.images for name, each in found.items()} == {
        "1h": 2,
        "24h": 3,
        "7d": 4,
    }
    hour = found["1h"]
    assert (hour.totals.p50, hour.totals.p95) == (200, 290)
    assert (found["7d"].totals.p50, hour.totals.cold_starts, hour.totals.saved) == (400, 2, 1800)
    assert hour.totals.cost
    assert hour.failed == 0
    assert hour.problems == []
    by_start = {each.start: (each.images, each.p50, each.p95) for each in hour.periods}
    assert by_start[half_past(20).replace(second=0, microsecond=0)] == (1, 100, 100)
    assert len(by_start) == 60
    assert sum(each.images or 0 for each in found["24h"].periods) == 3


def test_the_rate_is_that_of_the_last_full_minutes(stack: Stack) -> None:
    """Images per minute are a mean of five whole minutes, without the one that is not over."""
    for minutes_ago in (0, 0, 1, 1, 5, 6):
        put_processed(stack, half_past(minutes_ago), 100)
    totals = Metrics(stack, SPANS["1h"]).read().totals
    assert totals.images == 6
    assert totals.rate == pytest.approx(3 / 5)


def test_an_upload_that_fails_again_is_one_failed_upload(stack: Stack) -> None:
    """A retry or a replay is no further failure; it stays in the minute of the first one."""
    for minutes_ago, key in ((30, "a"), (20, "a"), (10, "a"), (20, "b")):
        put_failed(stack, half_past(minutes_ago), bucket=INPUT, key=key)
    for minutes_ago in (5, 6):
        put_failed(stack, half_past(minutes_ago), message_id="event")
    put_log(stack, half_past(20), {"action": "complete", "bucket": INPUT, "key": "c"})
    found = Metrics(stack, SPANS["1h"]).read()
    assert (found.failed, found.by_upload) == (3, True)
    when = {
        found.periods[-1].start - each.start: each.failed for each in found.periods if each.failed
    }
    assert when == {30 * MINUTE: 1, 20 * MINUTE: 1, 6 * MINUTE: 1}


def test_the_log_is_read_only_around_failures(stack: Stack) -> None:
    """Without failed attempts nothing is read, and otherwise a quarter of an hour before them."""
    requests: list[dict[str, Any]] = []
    stack.aws.logs.meta.events.register(
        "provide-client-params.logs.FilterLogEvents", lambda params, **_: requests.append(params)
    )
    put_processed(stack, half_past(3), 100)
    week = Metrics(stack, SPANS["7d"])
    assert week.read().failed == 0
    assert requests == []
    put_failed(stack, half_past(600), bucket=INPUT, key="a")
    assert week.read().failed == 1
    (request,) = requests
    assert request["endTime"] - request["startTime"] == (7200 + 900) * 1000 - 1


def test_the_metrics_are_those_that_the_function_writes(capsys: pytest.CaptureFixture[str]) -> None:
    """Namespace and names are those of the function's log lines in embedded metric format."""
    function = telemetry.Telemetry("INFO")
    function.begin("request")
    function.completed("b", "k", widths=[128], duration_ms=1.0, size_in=1, size_out=1)
    function.failed("b", "k", telemetry.PipelineError(), {})
    function.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = (each for each in lines if "_aws" in each)
    assert {name for name, _ in module.STATISTICS.values()} <= line.keys()
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == module.NAMESPACE


# --- what is unknown ----------------------------------------------------------------------------
def test_a_missing_permission_hides_only_what_it_protects(stack: Stack) -> None:
    """Without the log failed attempts are counted, and said to be. Without CloudWatch the rest is.

    Each time the permission is named.
    """
    put_processed(stack, half_past(5), 100)
    for _ in range(2):
        put_failed(stack, half_past(5), bucket=INPUT, key="a")
    hour = Metrics(stack, SPANS["1h"])
    deny(stack.aws.logs, "FilterLogEvents")
    found = hour.read()
    assert (found.totals.images, found.failed, found.by_upload) == (1, 2, False)
    assert re.search("but their attempts.*logs:FilterLogEvents", found.problems[0])
    assert [each.title for each in charts(found)][1] == "Failed attempts"

    stack = replace(stack, aws=moto_stack(str(stack.aws.endpoint_url)).aws)
    deny(stack.aws.cloudwatch, "GetMetricData")
    found = Metrics(stack, SPANS["1h"]).read()
    assert (found.totals.images, found.totals.p50, found.failed) == (None, None, 1)
    assert "cloudwatch:GetMetricData" in found.problems[0]
    assert [each.title for each in charts(found)] == ["Failed uploads"]
    with serving(stack) as url:
        page = Pages(url).get("/metrics/current").text
    assert 'Images processed</dt><dd>–</dd><dd class="muted">not known' in page
    assert 'error-text">1</dd>' in page

    deny(stack.aws.logs, "FilterLogEvents")
    found = Metrics(stack, SPANS["1h"]).read()
    assert found.failed is None
    assert charts(found) == []


def test_a_log_that_is_too_long_is_not_read_for_minutes(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading stops after a while, and failed attempts are counted instead."""
    for key in "abb":
        put_failed(stack, half_past(5), bucket=INPUT, key=key)
    hour = Metrics(stack, SPANS["1h"])
    stack.aws.logs.meta.events.register(
        "provide-client-params.logs.FilterLogEvents", lambda params, **_: params | {"limit": 1}
    )
    assert (hour.read().failed, hour.read().by_upload) == (2, True), "three pages are few"
    monkeypatch.setattr(module, "LOG_SECONDS", 0)
    found = hour.read()
    assert (found.failed, found.by_upload) == (3, False)
    assert "The log is too long" in found.problems[0]


def test_an_aws_that_does_not_answer_is_given_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two time-outs of each service the page says which one did not answer."""
    monkeypatch.setattr(Aws, "impatient", IMPATIENT)
    monkeypatch.setattr(aws_module, "PAGE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        account = Aws.local(url, AccessKey("testing", "testing"))
        found = Metrics(replace(stack, aws=account), SPANS["1h"]).read()
    assert found.failed is None
    for problem, what in zip(found.problems, ("CloudWatch", "Failed uploads"), strict=True):
        assert re.search(f"{what}.*Read timeout", problem)


def test_a_series_without_values_is_not_a_series_of_zeros(stack: Stack) -> None:
    """If CloudWatch cannot answer for a metric, the numbers are unknown."""
    stack.aws.cloudwatch.meta.events.register(
        "after-call.cloudwatch.GetMetricData",
        lambda parsed, **_: parsed["MetricDataResults"][0].update(StatusCode="InternalError"),
    )
    found = Metrics(stack, SPANS["1h"]).read()
    assert found.totals.images is None
    assert "CloudWatch answered InternalError" in found.problems[0]
    assert found.failed == 0, "there is no log before the first invocation"


def test_open_pages_share_one_summary(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary is reused for a while, unless something in it could not be read."""
    hour = Metrics(stack, SPANS["1h"])
    assert hour.current().totals.images == 0
    put_processed(stack, half_past(5), 100)
    assert hour.current().totals.images == 0
    monkeypatch.setattr(hour, "_reuse_until", 0.0)
    deny(stack.aws.cloudwatch, "GetMetricData")
    for _ in range(2):
        assert hour.current().problems
    hour = Metrics(moto_stack(str(stack.aws.endpoint_url)), SPANS["1h"])
    assert hour.current().totals.images == 1


def test_an_unknown_range_is_refused(stack: Stack) -> None:
    """The page names the ranges that there are."""
    with serving(stack) as url:
        answer = Pages(url).get("/metrics?range=2h")
    assert answer.status_code == 400
    assert "1h, 24h and 7d" in answer.text


# --- charts -------------------------------------------------------------------------------------
@given(st.just(0.0) | st.floats(1e-3, 1e9), st.booleans())
def test_axes_have_round_values(maximum: float, whole: bool) -> None:  # noqa: FBT001
    """An axis has up to five values, all multiples of 1, 2 or 5 times a power of ten."""
    top, ticks = axis(maximum, lambda value, _: repr(value), whole=whole)
    values = [float(tick.label) for tick in ticks]
    assert maximum <= top * (1 + 1e-9)
    assert values[0] == 0
    assert 2 <= len(values) <= 5
    assert f"{values[1]:e}"[0] in "125"
    assert [tick.y for tick in ticks] == pytest.approx(
        [100 * (1 - value / top) for value in values]
    )
    if whole:
        assert values[1] >= 1


def charts_of(stack: Stack) -> dict[str, Chart]:
    """The charts of the last hour, by name."""
    return {each.name: each for each in charts(Metrics(stack, SPANS["1h"]).read())}


def test_charts_of_nothing_of_one_point_and_of_a_spike(stack: Stack) -> None:
    """An axis without values goes to 1; a value alone is a dot; one of a million is still seen."""
    found = charts_of(stack)
    assert [tick.label for tick in found["images"].ticks] == ["0", "1"]
    assert (found["images"].bars, found["duration"].lines[0].path) == ([], "")
    put_processed(stack, half_past(10), 161)
    found = charts_of(stack)
    assert re.fullmatch(r"M\d+\.5 19\.5h0", found["duration"].lines[0].dots)
    put_metrics(stack, half_past(20), failed_count=1_000_000)
    put_metrics(stack, half_past(30), failed_count=1)
    put_processed(stack, half_past(9), 900_000)
    deny(stack.aws.logs, "FilterLogEvents")
    found = charts_of(stack)
    assert [bar.height for bar in found["failed"].bars] == [MIN_BAR, 100]
    assert [tick.label for tick in found["failed"].ticks] == ["0", "500k", "1M"]
    assert [tick.label for tick in found["duration"].ticks] == ["0 s", "500 s", "1,000 s"]
    assert re.fullmatch(r"M\d+\.5 100\.0L\d+\.5 10\.0", found["duration"].lines[0].path)


def test_amounts_and_counts_are_short() -> None:
    """Large counts have a unit, and small amounts are not written as nothing."""
    assert [compact(value) for value in (0, 50, 2500, 2e6)] == ["0", "50", "2.5k", "2M"]
    assert [dollars(value) for value in (0, 1e-5, 0.0123, 1234.5)] == [
        "$0.00",
        "< $0.0001",
        "$0.0123",
        "$1,234.50",
    ]


# --- the page -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    if chromium.executable() is None:
        pytest.skip("no Chromium: apt install chromium, or set the variable CHROMIUM to its path")
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """The page of metrics in Chromium, in the time zone of the Marquesas (UTC-9:30).

    Three minutes have an image, and one of them a failed upload.
    """
    for minutes_ago, milliseconds in ((30, 120), (30, 240), (20, 3000)):
        put_processed(stack, half_past(minutes_ago), milliseconds)
    put_failed(stack, half_past(30), bucket=INPUT, key="a")
    with serving(stack) as url:
        page = browser.new_page(base_url=url, timezone_id="Pacific/Marquesas", locale="en-GB")
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.goto("/metrics")
        expect(page.locator("#images")).to_be_visible()
        yield page
        page.close()


def local(minutes_ago: int) -> str:
    """The minute that was then, in the Marquesas."""
    start = half_past(minutes_ago) + timedelta(hours=-9, minutes=-30)
    return f"{start:%H:%M}–{start + MINUTE:%H:%M}"


def at(page: Page, chart: str, minutes_ago: int) -> tuple[float, float]:
    """Where a minute is on the screen."""
    box = page.locator(f"#{chart} .drawing").bounding_box()
    assert box
    x = box["x"] + box["width"] * (59 - minutes_ago + 0.5) / 60
    return x, box["y"] + box["height"] / 2


def test_values_are_shown_under_the_pointer(page: Page) -> None:
    """Pointing at a chart shows the minute, in the viewer's time zone, and its values."""
    readout = page.locator("figure", has=page.locator("#duration")).locator(".readout")
    page.locator("#duration").scroll_into_view_if_needed()
    page.mouse.move(*at(page, "duration", 30))
    expect(readout).to_have_text(f"{local(30)}: median 180 ms, 95th percentile 234 ms")
    page.mouse.move(*at(page, "duration", 25))
    expect(readout).to_have_text(f"{local(25)}: no images")
    page.mouse.move(0, 0)
    expect(readout).to_have_text("")
    labels = page.locator("#images .times text").all_text_contents()
    assert len(labels) > 5
    assert all(re.fullmatch(r"\d\d:\d[05]", label) for label in labels)


def test_values_are_reached_by_keyboard_and_kept_by_a_refresh(page: Page, stack: Stack) -> None:
    """Arrow keys move through a chart's minutes, also for screen readers.

    New numbers keep the focus, the minute and the open table.
    """
    page.locator("summary").click()
    chart = page.get_by_role("slider", name="Images processed")
    page.get_by_role("link", name="7 days").focus()
    page.keyboard.press("Tab")
    expect(chart).to_be_focused()
    page.keyboard.press("Home")
    for key in ("PageUp", "PageUp", "PageUp", "ArrowLeft"):
        page.keyboard.press(key)
    expect(chart).to_have_attribute("aria-valuetext", f"{local(30)}: 2 images")
    put_processed(stack, half_past(30), 100)
    expect(chart).to_have_attribute("aria-valuetext", f"{local(30)}: 3 images", timeout=20_000)
    expect(chart).to_be_focused()
    expect(page.locator("figure .readout").first).to_have_text(f"{local(30)}: 3 images")
    expect(page.locator("table.numbers")).to_be_visible()


def test_the_table_has_the_numbers_of_the_charts(page: Page) -> None:
    """Each minute with an image or a failure has a row, the newest first."""
    page.locator("summary").click()
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(3)

    def cells(row: int) -> list[str]:
        return rows.nth(row).locator("th, td").all_inner_texts()

    assert cells(0) == ["Time", "Images", "Failed uploads", "Median", "95th percentile"]
    assert cells(1) == [local(20), "1", "0", "3.0 s", "3.0 s"]
    assert cells(2) == [local(30), "2", "1", "180 ms", "234 ms"]
    expect(page.get_by_text("Times are in Pacific/Marquesas")).to_be_visible()


def test_the_series_of_a_legend_are_told_apart(page: Page) -> None:
    """Series differ in brightness or hue and in their dashes, and stand out from both themes."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        looks = page.locator(".legend line").evaluate_all("""lines => lines.map((line) => {
            const { stroke, strokeDasharray } = getComputedStyle(line);
            return [stroke, strokeDasharray];
        })""")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        strokes = [rgb(stroke) for stroke, _ in looks]
        assert len({dashes for _, dashes in looks}) == len(looks) == 2
        for stroke in (*strokes, rgb(page.locator("rect.failed").first.evaluate(FILL))):
            assert contrast(stroke, rgb(background)) >= 3, (scheme, stroke)
        # Red and green are what most colour-blind people confuse, so blue has to differ.
        assert abs(strokes[0][2] - strokes[1][2]) > 100, scheme


FILL = "rect => getComputedStyle(rect).fill"


def rgb(colour: str) -> tuple[float, ...]:
    """The parts of a computed colour, from 0 to 255."""
    return tuple(float(part) for part in re.findall(r"[\d.]+", colour)[:3])


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The contrast ratio of two colours: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: tuple[float, ...]) -> float:
    """The relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [part / 255 for part in colour]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
