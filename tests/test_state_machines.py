"""The state machines as deployed: retries and errors handled, AWS's limits kept, permissions exact.

The local AWS enforces none of this.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from template import Deployed

from image_pipeline.stack.backfill import ARCHIVES
from thumbnailer.settings import RESERVED_PREFIX

IAC = Path(__file__).parent.parent / "iac"
MAX_PAYLOAD_BYTES = 256 * 1024
"""Limit of a state's input, output or task result. To exceed it is an error that no Catch handles:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
MAX_HISTORY_EVENTS = 25_000
"""Limit of an execution's history, from the same page."""
MAX_VISIBILITY_TIMEOUT = 43_200
"""Seconds, twelve hours:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html"""
MACHINES = {"replay": "ReplayStateMachine", "backfill": "BackfillStateMachine"}
ROLES = {"replay": "ReplayRole", "backfill": "BackfillRole"}


@cache
def definition(name: str, **given: object) -> dict[str, Any]:
    """The definition of a state machine, with the template's substitutions filled in."""
    text = (IAC / f"{name}.asl.json").read_text()
    filled = Deployed(**given).properties(MACHINES[name])["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(filled)
    found: dict[str, Any] = json.loads(
        re.sub(r"\$\{(\w+)\}", lambda match: str(filled[match[1]]), text)
    )
    return found


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and definition of every state, including those within Map states."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def attempts(state: dict[str, Any]) -> int:
    """How often a Task or Map is tried at most: each Retry has a count of its own."""
    return 1 + sum(each["MaxAttempts"] for each in state.get("Retry", []))


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_that_can_fail_has_retry_and_catch(name: str) -> None:
    """The retries are limited in number and time, and the last Catch handles every error.

    In a backfill no Catch does: what fails is redriven (docs/adr/0026), and
    tests/test_state_machine_runs.py names the errors that are caught.
    """
    for title, state in states(definition(name)):
        if state["Type"] not in ("Task", "Map"):
            continue
        assert 1 <= attempts(state) - 1 <= 12, title
        for each in state["Retry"]:
            assert each["MaxAttempts"] * each.get("MaxDelaySeconds", 60) <= 600, title
        if name == "replay":
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], title
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] <= 960, title
            assert any("JitterStrategy" in each for each in state["Retry"]), title


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_is_reachable_and_has_a_successor_or_ends(name: str) -> None:
    """No state is unused, and no Next is misspelt."""

    def check(machine: dict[str, Any]) -> None:
        defined = set(machine["States"])
        reachable = {machine["StartAt"]}
        for state in machine["States"].values():
            reachable |= {state[each] for each in ("Next", "Default") if each in state}
            reachable |= {
                each["Next"] for each in state.get("Choices", []) + state.get("Catch", [])
            }
            ends = state.get("End") or state["Type"] in ("Succeed", "Fail", "Choice")
            assert ends or "Next" in state
            if "ItemProcessor" in state:
                check(state["ItemProcessor"])
        assert reachable == defined

    check(definition(name))


@pytest.mark.parametrize("name", MACHINES)
def test_no_text_of_a_parameter_is_within_an_expression(name: str) -> None:
    """An apostrophe would end the string that it is in; outside JSONata any text is data.

    Numbers are safe, and so is the URL of a queue: its name has letters, digits and hyphens.
    """
    expressions = re.findall(r"\{%(.*?)%\}", (IAC / f"{name}.asl.json").read_text())
    within = {each for text in expressions for each in re.findall(r"\$\{(\w+)\}", text)}
    assert within <= {"Maximum", "Concurrency", "LambdaTimeout", "QueueUrl"}


ACTIONS = {
    "aws-sdk:sqs:receiveMessage": {"sqs:ReceiveMessage"},
    "aws-sdk:sqs:deleteMessage": {"sqs:DeleteMessage"},
    "aws-sdk:sqs:changeMessageVisibility": {"sqs:ChangeMessageVisibility"},
    "aws-sdk:sqs:changeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "lambda:invoke": {"lambda:InvokeFunction"},
    "s3:listObjectsV2": {"s3:ListBucket"},
    "s3:putObject": {
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    },
}
"""The IAM actions of each service integration. For the ResultWriter and the Distributed Map:
https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html"""
DISTRIBUTED = {
    "states:StartExecution",
    "states:DescribeExecution",
    "states:StopExecution",
    "states:RedriveExecution",
}


def allowed(name: str, **given: object) -> dict[str, Any]:
    """The actions that a state machine's role allows, each with its resources."""
    (policy,) = Deployed(**given).properties(ROLES[name])["Policies"]
    found = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        actions = statement["Action"]
        for action in actions if isinstance(actions, list) else [actions]:
            found[action] = statement["Resource"]
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_the_role_allows_exactly_the_calls_of_the_states(name: str) -> None:
    """Read from the definition: a new call needs a permission, an unused permission must go."""
    needed: set[str] = set()
    for _, state in states(definition(name)):
        parts = (state, state.get("ItemReader", {}), state.get("ResultWriter", {}))
        for resource in (each["Resource"] for each in parts if "Resource" in each):
            needed |= ACTIONS[resource.removeprefix("arn:aws:states:::")]
        mode = state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode")
        needed |= DISTRIBUTED if mode == "DISTRIBUTED" else set()
    assert set(allowed(name)) == needed


def test_the_roles_name_only_resources_of_this_stack() -> None:
    """Queues, function, buckets, results and executions."""
    replay = allowed("replay", ExistingInputBucket="true")
    assert replay["lambda:InvokeFunction"] == "ThumbnailFunctionAliaslive"
    assert replay["sqs:DeleteMessage"] == ["DeadLetterQueue.Arn", "UndeliveredEvents.Arn"]
    assert allowed("replay")["sqs:ReceiveMessage"] == ["DeadLetterQueue.Arn"]
    backfill = allowed("backfill")
    arn = "arn:aws:states:us-east-1:123456789012"
    own_executions = [f"{arn}:execution:my-image-pipeline-backfill{each}" for each in (":*", "/*")]
    assert backfill == {
        "lambda:InvokeFunction": "ThumbnailFunctionAliaslive",
        "s3:ListBucket": "arn:aws:s3:::my-input-bucket",
        **dict.fromkeys(
            ACTIONS["s3:putObject"], "arn:aws:s3:::my-output-bucket/_image-pipeline/backfill/*"
        ),
        "states:StartExecution": f"{arn}:stateMachine:my-image-pipeline-backfill",
        "states:DescribeExecution": own_executions,
        "states:StopExecution": own_executions,
        "states:RedriveExecution": f"{arn}:execution:my-image-pipeline-backfill/Images:*",
    }
    assert definition("backfill")["States"]["Images"]["Label"] == "Images"
    writer = definition("backfill")["States"]["Images"]["ResultWriter"]["Arguments"]
    assert writer == {"Bucket": "my-output-bucket", "Prefix": "_image-pipeline/backfill"}
    assert writer["Prefix"].startswith(RESERVED_PREFIX)  # which no thumbnail's key begins with
    for name in MACHINES:
        assert (
            Deployed().properties(MACHINES[name])["StateMachineName"] == f"my-image-pipeline-{name}"
        )


@pytest.mark.parametrize("name", MACHINES)
def test_the_roles_may_use_a_customer_managed_key(name: str) -> None:
    """A replay reads messages of the encrypted queue; a backfill writes results."""
    granted = allowed(name, CreateKmsKey="true")
    needed = {"replay": {"kms:Decrypt"}, "backfill": {"kms:Decrypt", "kms:GenerateDataKey"}}[name]
    assert {action for action in granted if action.startswith("kms:")} == needed
    assert all(granted[action] == "Key.Arn" for action in needed)


@pytest.mark.parametrize("role", ROLES.values())
def test_only_step_functions_of_this_account_may_assume_a_role(role: str) -> None:
    """The condition prevents a confused deputy."""
    (trust,) = Deployed().properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "states.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_the_largest_message_fits_into_a_payload() -> None:
    """Escaped twice, as text in JSON in JSON, it has up to four times its bytes."""
    deployed = Deployed(ExistingInputBucket="true")
    for queue in ("DeadLetterQueue", "UndeliveredEvents"):
        assert deployed.properties(queue)["MaximumMessageSize"] * 4 < MAX_PAYLOAD_BYTES


def test_the_largest_batch_fits_into_a_payload() -> None:
    """Keys may have 1,024 bytes, so the bytes of a batch are limited; it is passed on escaped."""
    batcher = definition("backfill")["States"]["Images"]["ItemBatcher"]
    assert batcher["MaxInputBytesPerBatch"] * 2 <= MAX_PAYLOAD_BYTES
    # The longest item fits: a key of 1,024 control characters, each escaped as six bytes in JSON.
    assert batcher["MaxInputBytesPerBatch"] > 1024 * 6 + 200


def lane() -> dict[str, Any]:
    """The Map state that runs the lanes of a replay."""
    found: dict[str, Any] = definition("replay")["States"]["Lanes"]
    return found


def events_per_lane() -> int:
    """The number of its own events after which a lane stops, in the condition of Another."""
    condition = lane()["ItemProcessor"]["States"]["Another"]["Choices"][0]["Condition"]
    match = re.search(r"events >= (\d+)", condition)
    assert match
    return int(match[1])


def test_the_receipt_handles_of_all_lanes_fit_into_a_payload() -> None:
    """A receipt handle of SQS has up to 1,024 characters; the results of all lanes are joined."""
    hidden = lane()["ItemProcessor"]["States"]["Report"]["Output"]["hidden"]
    kept = re.search(r"index < (\d+)", hidden)
    assert kept
    assert lane()["MaxConcurrency"] * int(kept[1]) * (1024 + 3) < MAX_PAYLOAD_BYTES


def most_events(state: dict[str, Any], of_each: int = 0) -> int:
    """The events of a state if it fails as often as it may; `of_each` are those within a Map.

    Entered and exited, and for each attempt of a Task scheduled, started and failed; of a Map
    started and failed. https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html
    """
    match state["Type"]:
        case "Task":
            return 2 + 3 * attempts(state)
        case "Map":
            return 2 + attempts(state) * (2 + of_each)
    return 2


def longest(machine: dict[str, Any], start: str, end: str | None = None) -> int:
    """The most events on the way from `start` to `end`, without `end`, or to where a path stops."""
    state = machine["States"][start]
    ways = {state.get("Next"), state.get("Default")} - {None}
    ways |= {each["Next"] for each in state.get("Choices", []) + state.get("Catch", [])}
    onward = [0 if way == end else longest(machine, way, end) for way in ways]
    within = 0
    if "ItemProcessor" in state:
        within = {"Lanes": lane_events, "Unhide": unhide_events}[start]()
    return most_events(state, within) + max(onward, default=0)


def lane_events() -> int:
    """All lanes: each may begin with one more message just before it stops.

    tests/test_state_machine_runs.py shows that the lanes count right.
    """
    machine = lane()["ItemProcessor"]
    last = most_events(machine["States"]["Another"]) + longest(machine, "Receive", "Another")
    end = most_events(machine["States"]["Another"]) + most_events(machine["States"]["Report"])
    return lane()["MaxConcurrency"] * (2 + events_per_lane() + last + end)


def unhide_events() -> int:
    """Of as many requests as there are tens of handles."""
    unhide = definition("replay")["States"]["Unhide"]
    tens = -(-lane()["MaxConcurrency"] * 45 // 10)
    return tens * (2 + longest(unhide["ItemProcessor"], "UnhideTen"))


def test_the_history_of_a_replay_stays_below_the_limit() -> None:
    """Even if each request fails as often as it may, and all lanes are run once more for that.

    The number is derived from the definition, so a new state or retry counts by itself.
    """
    events = 2 + longest(definition("replay"), "Settings")
    assert 20_000 < events < MAX_HISTORY_EVENTS


@pytest.mark.parametrize("timeout", [10, 30, 900])
def test_a_message_stays_hidden_for_all_attempts_and_waits(timeout: int) -> None:
    """Otherwise a second lane would receive it while the first still works on it."""
    replay = definition("replay", LambdaTimeout=timeout)
    inner = replay["States"]["Lanes"]["ItemProcessor"]["States"]
    expression = inner["Receive"]["Arguments"]["VisibilityTimeout"].strip("{}% ")
    factor, _, rest = expression.removeprefix(f"{timeout} * ").partition(" + ")
    hidden = timeout * int(factor) + int(rest)
    throttled, _, crashed, others = inner["Replay"]["Retry"]
    attempts = 1 + crashed["MaxAttempts"] + others["MaxAttempts"]
    waits = sum(
        min(
            each.get("IntervalSeconds", 1) * each.get("BackoffRate", 2) ** number,
            each["MaxDelaySeconds"],
        )
        for each in (throttled, others)
        for number in range(each["MaxAttempts"])
    )
    assert attempts * timeout + waits < hidden <= MAX_VISIBILITY_TIMEOUT


def test_backfill_maximum_limits_every_backfill() -> None:
    """The definition applies the stack's parameter to any requested maximum."""
    plan = definition("backfill", BackfillMaximum=7)["States"]["Plan"]["Output"]
    assert plan["max"] == "{% $states.input.max > 0 ? $min([$states.input.max, 7]) : 7 %}"
    reader = definition("backfill")["States"]["Images"]["ItemReader"]
    assert reader["ReaderConfig"] == {"MaxItems": "{% $states.input.max %}"}


def test_backfill_concurrency_is_the_default_of_every_backfill() -> None:
    """The number of batches at a time is the execution's own, or else the stack's parameter."""
    machine = definition("backfill", BackfillConcurrency=40)["States"]
    chosen = "{% $exists($states.input.concurrency) ? $states.input.concurrency : 40 %}"
    assert machine["Plan"]["Output"]["concurrency"] == chosen
    assert machine["Images"]["MaxConcurrency"] == "{% $states.input.concurrency %}"
    assert "? $states.input.concurrency : 5 %}" in str(definition("backfill"))


def test_a_backfill_and_its_preview_leave_out_the_same_storage_classes() -> None:
    """The items of a batch are those of the listing without the classes in ARCHIVES."""
    archived = definition("backfill")["States"]["Images"]["ItemSelector"]["archived"]
    assert set(re.findall(r"'(\w+)'", archived)) == ARCHIVES
    begin = definition("backfill")["States"]["Images"]["ItemProcessor"]["States"]["Begin"]
    assert begin["Assign"]["items"] == "{% [$states.input.Items[$not(archived)]] %}"


def test_a_remake_reaches_every_call_of_the_function() -> None:
    """From the input, which is checked before a remake is started, through each batch."""
    machine = definition("backfill")
    assert machine["States"]["Plan"]["Output"]["remake"] == "{% $states.input.remake = true %}"
    calls = [
        state["Arguments"]["Payload"]
        for _, state in states(machine)
        if state.get("Resource", "").endswith("lambda:invoke")
    ]
    assert len(calls) == 3
    for payload in calls:
        assert payload.get("report", payload)["remake"] == "{% $remake %}"
        if "report" in payload:
            continue
        assert payload["only_missing"] == "{% $not($remake) %}"
