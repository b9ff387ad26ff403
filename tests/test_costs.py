"""What a stack costs: every service that it uses, by its own settings, from published prices."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from image_pipeline.stack import costs
from image_pipeline.stack.deployed import Stack
from thumbnailer.settings import Settings

ROOT = Path(__file__).parent.parent
RATES = costs.Rates(512, "arm64", writes=2, duration_ms=158)
"""Of the default settings."""


def stack(outputs: dict[str, str] | None = None, **parameters: str) -> Stack:
    """A deployed stack with these outputs and parameters."""
    settings = Settings("output", "https://sqs.example/1/dead-letters")
    aws = cast("Any", None)
    return Stack(aws, "s", "input", "f", settings, "arm64", outputs or {}, parameters=parameters)


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


def documented() -> dict[str, list[float]]:
    """The table of docs/deploy.md: what → the dollars that it adds."""
    section = (ROOT / "docs" / "deploy.md").read_text().partition("## Cost")[2]
    rows = re.findall(r"^\| (.*?) \| (.*?) \| .*\|$", section.partition("\n## ")[0], re.MULTILINE)
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
        "LambdaProvisionedConcurrency=1": [round(kept["Lambda, provisioned concurrency"], 2)],
        "A replay of 1,000 messages": [round(costs.of_replay(RATES, 1000), 4)],
        "A backfill of 10,000 images that are up to date": [
            round(costs.of_backfill(RATES, 10_000, 0), 4)
        ],
        "A backfill of 10,000 images that are missing": [
            round(costs.of_backfill(RATES, 10_000, 10_000), 4)
        ],
    }


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
    machine = json.loads(re.sub(r"\$\{(Maximum|LambdaTimeout)\}", "1", text))
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
