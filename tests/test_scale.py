"""What a backfill of many objects costs and takes, and its limits: the tables of the runbook."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import runbook
import template
from home import Home

from image_pipeline.cli import targets
from image_pipeline.cli.commands.cost import readable
from image_pipeline.stack import costs, scale
from image_pipeline.stack.backfill import DEFAULT_CONCURRENCY, MAX_CONCURRENCY
from image_pipeline.stack.costs import Rates
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.scale import Scale
from thumbnailer.settings import Settings

OBJECTS = (10**6, 10**7, 10**8)
SECTION = runbook.sections()["backfill-at-scale"]
DEFAULTS = template.parameters()
"""Every parameter of a stack with default settings."""


def stack(region: str = "us-east-1", **parameters: str) -> Stack:
    """A deployed stack with default settings, but for these parameters."""
    aws = SimpleNamespace(endpoint_url=None, s3=SimpleNamespace(meta=SimpleNamespace()))
    aws.s3.meta.region_name = region
    given = DEFAULTS | parameters
    outputs = {"BackfillMaximum": given["BackfillMaximum"]}
    settings = Settings("output", "https://sqs.example/1/dead-letters")
    return Stack(cast("Any", aws), "s", "input", "f", settings, "arm64", outputs, parameters=given)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command, whose options all mean a stack with default settings."""
    monkeypatch.setattr(targets, "find_stack", lambda **_: stack())
    return Home(tmp_path, 1)


def rows(title: str) -> list[list[str]]:
    """The cells of the table whose first column has a title."""
    table = SECTION.partition(f"| {title} |")[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_the_runbook_has_what_the_command_estimates(home: Home) -> None:
    """Each row of dollars and times names the command that gives its figures."""
    documented = rows("Objects")
    assert [row[0] for row in documented] == [f"{each:,}" for each in OBJECTS]
    for _, current, missing, *times, command in documented:
        program, *words = command.strip("`").split()
        assert (program, words[-2:]) == ("image-pipeline", ["--stack", "NAME"])
        answer = home.json(*words)
        assert [current, missing] == [
            f"${answer[way]['total']:,.2f}" for way in ("up_to_date", "missing")
        ]
        hours = answer["missing"]["hours"]
        assert times == [readable(hours[str(each)]) for each in scale.CONCURRENCIES]


def test_the_runbook_has_every_limit(home: Home) -> None:
    """Allowed, needed, what moves it, and its source, for 100 million objects."""
    found = home.json("cost", "--backfill", 10**8, "--concurrency", 100)["limits"]
    assert rows("Limit") == [
        [
            each["name"][0].upper() + each["name"][1:],
            f"{each['allowed']:,.0f}",
            f"**{each['needed']:,.0f}**" if each["exceeded"] else f"{each['needed']:,.0f}",
            each["moved_by"],
            f"[{each['document'].rpartition('/')[2].removesuffix('.html')}]({each['document']})",
        ]
        for each in found
    ]


def test_limits_that_a_parameter_moves_are_those_of_the_template() -> None:
    """Each named parameter exists, and changes what is allowed or needed."""
    named = set(re.findall(r"parameter (\w+)", " ".join(each[3] for each in rows("Limit"))))
    assert named == {"BackfillMaximum", "BackfillConcurrency", "LambdaReservedConcurrency"}
    usual = Scale.of(stack(), 10**6, None, None).limits(stack())
    for name in named:
        changed = stack(**{name: "7"})
        moved = Scale.of(changed, 10**6, None, None).limits(changed)
        assert moved != usual, name
        assert name in template.source()["Parameters"]


def test_a_limit_that_is_exceeded_is_told_with_what_moves_it(home: Home) -> None:
    """The others are in the table alone."""
    shown = " ".join(home.run("cost", "--backfill", 10**6).stdout.split())
    assert "Exceeded: objects of one backfill, of this stack. What to change: parameter" in shown
    assert shown.count("Exceeded: ") == 1
    assert "40,000 batches with 200,000 state transitions" in shown


def test_the_cost_is_that_of_a_backfill_with_its_time_and_logs() -> None:
    """It is the estimate of `image-pipeline backfill`, with the time of checks and the logs."""
    rates = Rates.of(stack())
    found = Scale(rates, 10**6, 5)
    for way, to_make in ((found.current(), 0), (found.missing(), 10**6)):
        usual = costs.of_backfill_by_service(rates, 10**6, to_make)
        more = {name: way.dollars[name] - usual.get(name, 0) for name in way.dollars}
        assert {name for name, dollars in more.items() if dollars} == {
            "Lambda, time",
            "CloudWatch, logs",
        }
        assert all(dollars >= 0 for dollars in more.values())


def test_hours_follow_concurrency_until_transitions_end_it() -> None:
    """Twice the batches take half as long; a region with a smaller quota takes longer."""
    found = Scale.of(stack(), 10**8, 50, None)
    missing = found.missing()
    assert found.hours(missing) == pytest.approx(2 * found.hours(missing, 100))
    assert found.hours(missing) == pytest.approx(
        10**8 / 25 * missing.batch_ms / 50 / 3_600_000, rel=1e-6
    )
    fast, slow = (
        Scale.of(stack(region), 10**8, 10_000, None).hours(missing)
        for region in ("us-east-1", "eu-central-1")
    )
    assert fast == pytest.approx(20 * 10**6 / 5000 / 3600)
    assert slow == pytest.approx(20 * 10**6 / 800 / 3600)


def test_the_constants_are_those_of_template_and_state_machine() -> None:
    """Default and limit of the concurrency, bytes of a batch, and the events of an image."""
    parameter = template.source()["Parameters"]["BackfillConcurrency"]
    assert (parameter["Default"], parameter["MaxValue"]) == (DEFAULT_CONCURRENCY, MAX_CONCURRENCY)
    assert template.source()["Parameters"]["BackfillMaximum"]["MaxValue"] == scale.MAX_ITEMS
    text = (template.PATH.parent / "backfill.asl.json").read_text()
    images = json.loads(re.sub(r"\$\{(Maximum|Concurrency)\}", "1", text))["States"]["Images"]
    assert images["ItemBatcher"]["MaxInputBytesPerBatch"] == scale.BATCH_BYTES
    assert images["ItemProcessor"]["ProcessorConfig"]["ExecutionType"] == "STANDARD"
    events = 0
    for name in ("Rest", "One", "Tried", "Report", "Others"):
        state = images["ItemProcessor"]["States"][name]
        events += 2  # entered and exited
        if state["Type"] == "Task":
            retries = sum(each["MaxAttempts"] for each in state["Retry"])
            events += 3 * (1 + retries)  # scheduled, started, ended
    assert events == scale.IMAGE_EVENTS


def test_a_stack_of_an_earlier_template_has_its_fixed_concurrency() -> None:
    """Without the parameter, a backfill ran 5 batches at a time."""
    earlier = replace(stack(), parameters={})
    assert Scale.of(earlier, 10, None, None).concurrency == 5
    assert Scale.of(stack(BackfillConcurrency="70"), 10, None, None).concurrency == 70
    assert Scale.of(stack(BackfillConcurrency="70"), 10, 3, None).concurrency == 3
