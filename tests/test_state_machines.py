"""The state machines as they are deployed: bounded, caught, within AWS's limits, and permitted.

The local AWS enforces none of this.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from template import Deployed

IAC = Path(__file__).parent.parent / "iac"
PAYLOAD = 256 * 1024
"""Bytes of any state's input, output or task's result; more is an error that nothing catches.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
HISTORY = 25_000
"""Events of an execution, at most; the same page."""
MACHINES = {"replay": "ReplayStateMachine", "backfill": "BackfillStateMachine"}
ROLES = {"replay": "ReplayRole", "backfill": "BackfillRole"}


def definition(name: str, **given: object) -> dict[str, Any]:
    """A definition, with what the template fills in."""
    text = (IAC / f"{name}.asl.json").read_text()
    filled = Deployed(**given).properties(MACHINES[name])["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(filled)
    found: dict[str, Any] = json.loads(
        re.sub(r"\$\{(\w+)\}", lambda match: str(filled[match[1]]), text)
    )
    return found


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state by its name, those within Map states too."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_that_can_fail_is_retried_and_caught(name: str) -> None:
    """A bounded Retry with a wait, and a Catch of everything that comes last."""
    for title, state in states(definition(name)):
        if state["Type"] not in ("Task", "Map"):
            continue
        assert 1 <= sum(each["MaxAttempts"] for each in state["Retry"]) <= 12, title
        for each in state["Retry"]:
            assert each["MaxAttempts"] * each.get("MaxDelaySeconds", 60) <= 600, title
        assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], title
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] <= 960, title
            assert any("JitterStrategy" in each for each in state["Retry"]), title


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_is_reached_and_leads_somewhere(name: str) -> None:
    """No state is left over, and no Next is misspelt."""

    def check(machine: dict[str, Any]) -> None:
        known = set(machine["States"])
        led = {machine["StartAt"]}
        for state in machine["States"].values():
            led |= {state[each] for each in ("Next", "Default") if each in state}
            led |= {each["Next"] for each in state.get("Choices", []) + state.get("Catch", [])}
            ends = state.get("End") or state["Type"] in ("Succeed", "Fail", "Choice")
            assert ends or "Next" in state
            if "ItemProcessor" in state:
                check(state["ItemProcessor"])
        assert led == known

    check(definition(name))


ACTIONS = {
    "aws-sdk:sqs:receiveMessage": {"sqs:ReceiveMessage"},
    "aws-sdk:sqs:deleteMessage": {"sqs:DeleteMessage"},
    "aws-sdk:sqs:changeMessageVisibility": {"sqs:ChangeMessageVisibility"},
    "aws-sdk:sqs:changeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "aws-sdk:sqs:sendMessage": {"sqs:SendMessage"},
    "lambda:invoke": {"lambda:InvokeFunction"},
    "s3:listObjectsV2": {"s3:ListBucket"},
    "s3:putObject": {
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    },
}
"""What each integration calls; for the ResultWriter and the Distributed Map itself:
https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html"""
DISTRIBUTED = {"states:StartExecution", "states:DescribeExecution", "states:StopExecution"}


def allowed(name: str, **given: object) -> dict[str, Any]:
    """Action to resource, of a machine's role."""
    (policy,) = Deployed(**given).properties(ROLES[name])["Policies"]
    found = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        actions = statement["Action"]
        for action in actions if isinstance(actions, list) else [actions]:
            found[action] = statement["Resource"]
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_the_role_allows_what_the_states_call_and_no_more(name: str) -> None:
    """Derived from the definition: a new call needs a new right, and an old right must go."""
    needed: set[str] = set()
    for _, state in states(definition(name)):
        parts = (state, state.get("ItemReader", {}), state.get("ResultWriter", {}))
        for resource in (each["Resource"] for each in parts if "Resource" in each):
            needed |= ACTIONS[resource.removeprefix("arn:aws:states:::")]
        mode = state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode")
        needed |= DISTRIBUTED if mode == "DISTRIBUTED" else set()
    assert set(allowed(name)) == needed


def test_the_roles_reach_this_stack_alone() -> None:
    """Queues, function, buckets, results and executions by name."""
    replay = allowed("replay", ExistingInputBucket="true")
    assert replay["lambda:InvokeFunction"] == "ThumbnailFunctionAliaslive"
    assert replay["sqs:DeleteMessage"] == ["DeadLetterQueue.Arn", "UndeliveredEvents.Arn"]
    assert allowed("replay")["sqs:ReceiveMessage"] == ["DeadLetterQueue.Arn"]
    backfill = allowed("backfill")
    states_of = "arn:aws:states:us-east-1:123456789012"
    assert backfill == {
        "lambda:InvokeFunction": "ThumbnailFunctionAliaslive",
        "s3:ListBucket": "arn:aws:s3:::my-input-bucket",
        **dict.fromkeys(
            ACTIONS["s3:putObject"], "arn:aws:s3:::my-output-bucket/_image-pipeline/backfill/*"
        ),
        "sqs:SendMessage": "DeadLetterQueue.Arn",
        "states:StartExecution": f"{states_of}:stateMachine:my-image-pipeline-backfill",
        "states:DescribeExecution": f"{states_of}:execution:my-image-pipeline-backfill/*",
        "states:StopExecution": f"{states_of}:execution:my-image-pipeline-backfill/*",
    }
    writer = definition("backfill")["States"]["Images"]["ResultWriter"]["Arguments"]
    assert writer == {"Bucket": "my-output-bucket", "Prefix": "_image-pipeline/backfill"}
    for name in MACHINES:
        assert (
            Deployed().properties(MACHINES[name])["StateMachineName"] == f"my-image-pipeline-{name}"
        )


@pytest.mark.parametrize("name", MACHINES)
def test_a_key_of_ones_own_may_be_used(name: str) -> None:
    """To read letters of an encrypted queue; to write letters and results."""
    used = allowed(name, CreateKmsKey="true")
    wanted = {"replay": {"kms:Decrypt"}, "backfill": {"kms:Decrypt", "kms:GenerateDataKey"}}[name]
    assert {action for action in used if action.startswith("kms:")} == wanted
    assert all(used[action] == "Key.Arn" for action in wanted)


@pytest.mark.parametrize("role", ROLES.values())
def test_only_this_account_s_step_functions_take_a_role(role: str) -> None:
    """The confused deputy's condition."""
    (trust,) = Deployed().properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "states.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_no_message_outgrows_a_payload() -> None:
    """Escaped twice, as text in JSON in JSON, the largest message has four times its bytes."""
    deployed = Deployed(ExistingInputBucket="true")
    for queue in ("DeadLetterQueue", "UndeliveredEvents"):
        assert deployed.properties(queue)["MaximumMessageSize"] * 4 < PAYLOAD


def test_no_batch_outgrows_a_payload() -> None:
    """A batch's bytes are bounded, for keys of 1,024 bytes are legal; it is passed on escaped."""
    batcher = definition("backfill")["States"]["Images"]["ItemBatcher"]
    assert batcher["MaxInputBytesPerBatch"] * 2 <= PAYLOAD
    # The longest item alone still fits: a key of 1,024 control characters, six bytes each.
    assert batcher["MaxInputBytesPerBatch"] > 1024 * 6 + 200


def lane() -> dict[str, Any]:
    found: dict[str, Any] = definition("replay")["States"]["Lanes"]
    return found


def messages_a_lane() -> int:
    condition = lane()["ItemProcessor"]["States"]["Another"]["Choices"][0]["Condition"]
    match = re.search(r"received >= (\d+)", condition)
    assert match
    return int(match[1])


def test_the_lanes_handles_fit_into_a_payload() -> None:
    """SQS's receipt handles have up to 1,024 characters; all lanes' come together."""
    hidden = lane()["ItemProcessor"]["States"]["Report"]["Output"]["hidden"]
    kept = re.search(r"index < (\d+)", hidden)
    assert kept
    assert lane()["MaxConcurrency"] * int(kept[1]) * (1024 + 3) < PAYLOAD


def test_a_replay_s_history_stays_within_its_limit() -> None:
    """A message is a way through the lane: 5 events a task (3 more a retry), 2 any other state."""
    events = 2 + 5 + 2 + (5 + 2 * 3) + 2 + 5 + 2  # Another … Count, with Replay tried thrice
    assert lane()["MaxConcurrency"] * messages_a_lane() * events < HISTORY


@pytest.mark.parametrize("timeout", [10, 30, 900])
def test_a_message_is_hidden_for_longer_than_it_is_worked_on(timeout: int) -> None:
    """Else a second lane would take it meanwhile: all tries to their time-out, and all waits."""
    replay = definition("replay", LambdaTimeout=timeout)
    inner = replay["States"]["Lanes"]["ItemProcessor"]["States"]
    expression = inner["Receive"]["Arguments"]["VisibilityTimeout"].strip("{}% ")
    factor, _, rest = expression.removeprefix(f"{timeout} * ").partition(" + ")
    hidden = timeout * int(factor) + int(rest)
    throttled, _, crashed, others = inner["Replay"]["Retry"]
    tries = 1 + crashed["MaxAttempts"] + others["MaxAttempts"]
    waits = sum(
        min(
            each.get("IntervalSeconds", 1) * each.get("BackoffRate", 2) ** number,
            each["MaxDelaySeconds"],
        )
        for each in (throttled, others)
        for number in range(each["MaxAttempts"])
    )
    assert tries * timeout + waits < hidden <= 43_200


def test_a_backfill_is_capped_whatever_is_asked() -> None:
    """By the stack's parameter, in the definition itself."""
    plan = definition("backfill", BackfillMaximum=7)["States"]["Plan"]["Output"]
    assert plan["max"] == "{% $exists($states.input.max) ? $min([$states.input.max, 7]) : 7 %}"
    reader = definition("backfill")["States"]["Images"]["ItemReader"]
    assert reader["ReaderConfig"] == {"MaxItems": "{% $states.input.max %}"}
