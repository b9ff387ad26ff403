"""The state machines run with JSONata's reference implementation, over answers in AWS's shapes.

The shapes: `Invoke` of Lambda (https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html),
`ReceiveMessage` of SQS (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html),
the items of `ListObjectsV2` and the error output of a Catch. Fields that AWS leaves out are left
out here. `make validate` installs the reference implementation and runs these tests.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from state_machine import NODE, Execution, Jsonata, StateError, expressions, jsonata
from template import source
from test_state_machines import MACHINES, MAX_HISTORY_EVENTS, definition, states

pytestmark = pytest.mark.skipif(not NODE.exists(), reason="`make validate` installs Node")

ETAG = '"9dd4e461268c8034f5c8564e155c67a6"'
LISTED = {"Key": "uploads/a.jpg", "LastModified": 1767225600, "Size": 3}


@pytest.fixture(scope="module")
def evaluate() -> Iterator[Jsonata]:
    """Return the reference implementation."""
    with jsonata() as found:
        yield found


RAN: set[str] = set()
"""Ids of the tests of this file that began."""


@pytest.fixture(autouse=True)
def _remember(request: pytest.FixtureRequest) -> None:
    RAN.add(request.node.nodeid)


class Aws:
    """Lambda, S3 and SQS. `function` answers a payload; `sent` are the payloads of all calls."""

    def __init__(
        self, function: Callable[[Any], Any], listed: list[Any] | None = None, messages: int = 0
    ) -> None:
        self.function = function
        self.listed = listed or []
        self.messages = [f"message {number}" for number in range(messages)]
        self.sent: list[Any] = []
        self.listings: list[Any] = []
        self.calls: list[str] = []
        self.refused: dict[str, int] = {}
        """Name of an action of SQS → how often it fails before it works."""
        self.without_messages: dict[str, Any] = {}
        """The answer of an empty queue."""

    def __call__(self, resource: str, arguments: Any) -> Any:
        """Answer a Task, or the listing of a Map."""
        self.calls.append(resource)
        if self.refused.get(resource, 0):
            self.refused[resource] -= 1
            raise StateError("Sqs.SqsException", None)
        match resource:
            case "lambda:invoke":
                self.sent.append(arguments["Payload"])
                return {"ExecutedVersion": "1", "Payload": self.function(arguments["Payload"])}
            case "s3:listObjectsV2":
                self.listings.append(arguments)
                return self.listed
            case "aws-sdk:sqs:receiveMessage":
                if not self.messages:
                    return self.without_messages
                body = self.messages.pop(0)
                return {"Messages": [{"Body": body, "ReceiptHandle": f"of {body}"}]}
        return {}


def summary(payload: Any) -> Any:
    """The function's answer when it makes everything, or sends the message of a report."""
    if "report" in payload:
        return {"failed": 1}
    made = len(payload["uploads"])
    return {"processed": made, "current": 0, "skipped": 0, "failed": 0, "not_done": []}


def backfill(
    evaluate: Jsonata, aws: Aws, given: dict[str, Any] | None = None, **parameters: object
) -> Execution:
    """Run a backfill; raise the error that it fails with."""
    execution = Execution(evaluate, aws)
    execution.run(definition("backfill", **parameters), given or {})
    return execution


def listing(count: int) -> list[Any]:
    """The items of a listing."""
    return [{**LISTED, "Key": f"uploads/{number:04}.jpg", "Etag": ETAG} for number in range(count)]


COUNTS = {"made": 0, "current": 0, "skipped": 0, "failed": 0, "archived": 0}


# --- backfill: the listing ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "etag"),
    [({"Etag": ETAG}, ETAG), ({"ETag": ETAG}, ETAG), ({}, "")],
    ids=["Etag", "ETag", "neither"],
)
def test_the_etag_of_the_listing_is_optional_in_either_spelling(
    evaluate: Jsonata, more: dict[str, str], etag: str
) -> None:
    """An undefined result would fail every item."""
    aws = Aws(summary, [LISTED | more])
    assert backfill(evaluate, aws).children == [COUNTS | {"made": 1}]
    (upload,) = aws.sent[0]["uploads"]
    assert (upload["key"], upload["etag"]) == ("uploads/a.jpg", etag)


def test_archived_objects_are_left_out_and_the_storage_class_is_optional(
    evaluate: Jsonata,
) -> None:
    """The listing of a directory bucket has no storage class, for example."""
    classes = ["STANDARD", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"]
    aws = Aws(summary, [LISTED, *(LISTED | {"StorageClass": each} for each in classes)])
    assert backfill(evaluate, aws).children == [COUNTS | {"made": 3, "archived": 2}]
    all_archived = Aws(summary, [LISTED | {"StorageClass": "GLACIER"}])
    assert backfill(evaluate, all_archived).children == [COUNTS | {"archived": 1}]
    assert all_archived.sent[0]["uploads"] == []


def test_an_empty_listing_is_no_failure(evaluate: Jsonata) -> None:
    """There is no batch."""
    assert backfill(evaluate, Aws(summary)).children == []


def test_any_prefix_that_the_parameter_allows_reaches_the_listing(evaluate: Jsonata) -> None:
    """It is data: an apostrophe does not end a string of JSONata."""
    allowed = source()["Parameters"]["InputPrefix"]["AllowedPattern"]
    characters = "".join(filter(re.compile(allowed).match, map(chr, range(32, 127))))
    assert "'" in characters
    for prefix in (characters, "'", "''", "('"):
        aws = Aws(summary)
        backfill(evaluate, aws, InputPrefix=prefix)
        assert aws.listings == [{"Bucket": "my-input-bucket", "Prefix": prefix}]


def test_no_maximum_of_an_input_lifts_the_limit_of_the_stack(evaluate: Jsonata) -> None:
    """Step Functions reads every object where MaxItems is 0, so 0 never gets there."""
    for given in ({}, {"max": 0}, {"max": -1}):
        aws = Aws(summary, listing(40))
        backfill(evaluate, aws, given, BackfillMaximum=7)
        assert [len(each["uploads"]) for each in aws.sent] == [7]


def test_the_input_of_a_backfill_is_optional_and_limited(evaluate: Jsonata) -> None:
    """Prefix, number of objects and remake reach the listing and the function."""
    aws = Aws(summary, listing(40))
    given = {"prefix": "uploads/x/", "max": 30, "concurrency": 2, "remake": True}
    assert [each["made"] for each in backfill(evaluate, aws, given).children] == [25, 5]
    assert aws.listings[0]["Prefix"] == "uploads/x/"
    assert [each["remake"] for each in aws.sent] == [True, True]
    aws = Aws(summary, listing(40))
    backfill(evaluate, aws, {"max": 30}, BackfillMaximum=7)
    assert len(aws.sent[0]["uploads"]) == 7
    assert aws.sent[0] | {"uploads": []} == {
        "uploads": [],
        "only_missing": True,
        "remake": False,
        "report_once": True,
        "summary": True,
    }


# --- backfill: what concerns one image ------------------------------------------------------------
def crashing(*errors: StateError | None) -> Callable[[Any], Any]:
    """A function whose process `b.jpg` ends, in one attempt after the other by these errors."""
    left = list(errors)

    def answer(payload: Any) -> Any:
        if "report" not in payload and any("0001" in each["key"] for each in payload["uploads"]):
            error = left.pop(0) if len(left) > 1 else left[0]
            if error:
                raise error
        return summary(payload)

    return answer


@pytest.mark.parametrize(
    "error",
    [
        StateError("Lambda.Unknown", None),
        StateError("Runtime.ExitError", "x" * 2000),
        StateError("Runtime.OutOfMemory"),
        StateError("Sandbox.Timedout"),
        StateError("States.Timeout", None),
    ],
    ids=lambda error: error.name,
)
def test_an_image_that_ends_the_process_gets_one_message(
    evaluate: Jsonata, error: StateError
) -> None:
    """The function sends it. The others of the batch are made one by one."""
    aws = Aws(crashing(error), listing(4))
    assert backfill(evaluate, aws).children == [COUNTS | {"made": 3, "failed": 1}]
    (report,) = [each["report"] for each in aws.sent if "report" in each]
    assert report == {
        "bucket": "my-input-bucket",
        "key": "uploads/0001.jpg",
        "etag": ETAG,
        "remake": False,
        "error": {"type": error.name, "message": (error.cause or "")[:1000]},
        "request_id": "arn:aws:states:us-east-1:123456789012:execution:machine:id",
    }


def test_an_image_that_ends_the_process_only_once_is_made(evaluate: Jsonata) -> None:
    """Its own invocation is tried again."""
    crash = StateError("Runtime.ExitError")
    aws = Aws(crashing(crash, crash, None), listing(2))
    assert backfill(evaluate, aws).children == [COUNTS | {"made": 2}]


def test_an_image_without_the_time_gets_a_message(evaluate: Jsonata) -> None:
    """A batch that makes progress is continued, and one without is divided."""

    def answer(payload: Any) -> Any:
        if "report" in payload:
            return summary(payload)
        never = [each for each in payload["uploads"] if "0000" in each["key"]]
        rest = [each for each in payload["uploads"] if "0000" not in each["key"]]
        made = summary({"uploads": rest[:2]})
        return {**made, "not_done": never + rest[2:]}

    aws = Aws(answer, listing(5))
    assert backfill(evaluate, aws).children == [COUNTS | {"made": 4, "failed": 1}]
    (report,) = [each["report"] for each in aws.sent if "report" in each]
    assert (report["key"], report["error"]["type"]) == ("uploads/0000.jpg", "OutOfTime")


# --- backfill: what concerns the function ---------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [
        "Lambda.ResourceNotFoundException",
        "Lambda.AccessDeniedException",
        "Lambda.AWSLambdaException",  # how a refused call is reported, too
        "Lambda.TooManyRequestsException",
        "Lambda.KMSAccessDeniedException",
        "Lambda.InvalidParameterValueException",
        "Lambda.ServiceException",
        "InvalidPackage",
        "InvalidSettings",
        "Runtime.ImportModuleError",
        "QueueUnavailable",
        "InvalidEvent",
    ],
)
def test_what_concerns_the_function_ends_the_execution_without_a_message(
    evaluate: Jsonata, name: str
) -> None:
    """Of 100,000 objects, it tries eleven batches. In a small backfill, one."""

    def fail(_: Any) -> Any:
        raise StateError(name)

    for count, batches in ((100_000, 11), (30, 1)):
        aws = Aws(fail, listing(count))
        execution = Execution(evaluate, aws)
        with pytest.raises(StateError) as failure:
            execution.run(definition("backfill"), {})
        assert failure.value.name == "States.ExceedToleratedFailureThreshold"
        assert [each.name for each in execution.children] == [name] * batches
        assert not [each for each in aws.sent if "report" in each]
        if count == 100_000:
            assert len(aws.sent) <= batches * 9


def test_a_function_that_ends_in_every_invocation_writes_no_message(evaluate: Jsonata) -> None:
    """An image that ends the function is another case: the function sends its message."""

    def crash(_: Any) -> Any:
        raise StateError("Runtime.ExitError")

    aws = Aws(crash, listing(3000))
    execution = Execution(evaluate, aws)
    with pytest.raises(StateError):
        execution.run(definition("backfill"), {})
    assert [each.name for each in execution.children] == ["Runtime.ExitError"] * 7


@pytest.mark.parametrize("payload", [None, {}, "text"])
def test_an_unknown_answer_fails_the_batch(evaluate: Jsonata, payload: Any) -> None:
    """Without the list of what is left, images would count as done."""
    aws = Aws(lambda _: payload, listing(1))
    execution = Execution(evaluate, aws)
    with pytest.raises(StateError):
        execution.run(definition("backfill"), {})
    (failed,) = execution.children
    assert failed.name == "States.QueryEvaluationError"
    assert "unknown answer" in failed.cause


def test_a_failed_batch_can_be_redriven() -> None:
    """A redrive continues at a state that failed, which a caught error is not.

    https://docs.aws.amazon.com/step-functions/latest/dg/redrive-map-run.html
    """
    crashes = {
        name
        for _, state in states(definition("backfill"))
        for each in state.get("Catch", [])
        for name in each["ErrorEquals"]
    }
    assert crashes == {
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Runtime.OutOfMemory",
        "Sandbox.Timedout",
        "States.Timeout",
    }
    assert not [state for _, state in states(definition("backfill")) if state["Type"] == "Fail"]


# --- replay ---------------------------------------------------------------------------------------
ANSWERS: dict[str, Any] = {
    "done": {"processed": 1, "skipped": 0, "failed": 0, "not_done": 0},
    "failed_again": {"processed": 0, "skipped": 0, "failed": 1, "not_done": 0},
    "unreadable": {"left": "unreadable"},
    "newer": {"left": "newer"},
    "unknown": {},
}


def replay(evaluate: Jsonata, aws: Aws, given: dict[str, Any] | None = None) -> Any:
    """Run a replay; its output."""
    execution = Execution(evaluate, aws)
    output = execution.run(definition("replay"), given or {})
    assert execution.events < MAX_HISTORY_EVENTS
    return output


@pytest.mark.parametrize(
    ("answer", "counts", "kept"),
    [
        ("done", {"done": 3}, False),
        ("failed_again", {"failed_again": 3}, False),
        ("unreadable", {"unreadable": 3}, True),
        ("newer", {}, True),
        ("unknown", {"left": 3}, True),
    ],
)
def test_a_message_is_deleted_only_if_its_upload_is_settled(
    evaluate: Jsonata, answer: str, counts: dict[str, int], *, kept: bool
) -> None:
    """An unknown answer keeps it, too. What stays is hidden, and visible again at the end."""
    aws = Aws(lambda _: ANSWERS[answer], messages=3)
    none = {"done": 0, "failed_again": 0, "left": 0, "unreadable": 0}
    assert replay(evaluate, aws) == {**none, "more": False, "errors": [], **counts}
    assert ("aws-sdk:sqs:deleteMessage" in aws.calls) is not kept
    assert ("aws-sdk:sqs:changeMessageVisibility" in aws.calls) is kept
    assert ("aws-sdk:sqs:changeMessageVisibilityBatch" in aws.calls) is kept
    assert aws.sent[0]["letter"] == "message 0"


@pytest.mark.parametrize("without_messages", [{}, {"Messages": []}])
def test_an_empty_queue_has_an_empty_list_or_none(
    evaluate: Jsonata, without_messages: dict[str, Any]
) -> None:
    """SQS leaves the field out."""
    aws = Aws(summary)
    aws.without_messages = without_messages
    found = replay(evaluate, aws)
    assert (found["done"], found["more"]) == (0, False)


def test_the_input_of_a_replay_is_optional(evaluate: Jsonata) -> None:
    """Queue, error type, time and number."""
    aws = Aws(lambda _: ANSWERS["done"], messages=3)
    given = {"queue_url": "url", "error": "CorruptImage", "failed_before": "2026", "max": 2}
    assert replay(evaluate, aws, given)["done"] == 2
    assert aws.sent[0] == {
        "letter": "message 0",
        "failed_before": "2026",
        "error": "CorruptImage",
    }
    replay(evaluate, aws)
    assert aws.sent[-1] == {
        "letter": "message 2",
        "failed_before": "2026-01-01T00:00:00.000Z",
        "error": None,
    }


def test_a_long_queue_is_continued_by_another_execution(evaluate: Jsonata) -> None:
    """Each takes a limited number, within the limit of its history even if all fail."""

    def fail(_: Any) -> Any:
        raise StateError("Lambda.ServiceException", None)

    aws = Aws(fail, messages=700)
    found = replay(evaluate, aws)
    assert found["more"]
    assert 150 < found["left"] == 700 - len(aws.messages) < 600


@pytest.mark.parametrize("answer", ["done", "newer", "raises"])
def test_a_lane_counts_its_events_with_every_retry(evaluate: Jsonata, answer: str) -> None:
    """If each call fails as often as it may before it succeeds, or at last fails.

    The lanes may be run once more, so one run of them has half of the history.
    """

    class Flaky(Aws):
        def __init__(self) -> None:
            super().__init__(lambda _: ANSWERS[answer], messages=1000)
            self.tries = 0

        def __call__(self, resource: str, arguments: Any) -> Any:
            self.tries += 1
            if resource == "lambda:invoke":
                errors = ["Lambda.TooManyRequestsException"] * 6 + ["Lambda.ServiceException"] * 2
                errors += ["Runtime.ExitError"]
                if self.tries <= len(errors):
                    raise StateError(errors[self.tries - 1])
                if answer == "raises":
                    self.tries = 0
                    raise StateError("Lambda.ServiceException", None)
            elif "Batch" not in resource and self.tries <= 4:
                raise StateError("Sqs.SqsException")
            self.tries = 0
            return super().__call__(resource, arguments)

    aws = Flaky()
    execution = Execution(evaluate, aws)
    assert execution.run(definition("replay"), {})["more"]
    # It stops because of its events, and not long before.
    assert MAX_HISTORY_EVENTS / 2 * 0.9 < execution.events < MAX_HISTORY_EVENTS / 2


def test_a_queue_that_refuses_is_named(evaluate: Jsonata) -> None:
    """The replay fails; AWS may give no cause."""
    aws = Aws(summary, messages=1)
    aws.refused["aws-sdk:sqs:receiveMessage"] = 1000
    with pytest.raises(StateError, match="ReplayFailed") as failure:
        replay(evaluate, aws)
    assert "Sqs.SqsException" in str(failure.value.cause)


def test_a_message_that_cannot_be_deleted_or_hidden_is_left(evaluate: Jsonata) -> None:
    """It becomes visible again by its time-out."""
    aws = Aws(lambda _: ANSWERS["done"], messages=1)
    aws.refused["aws-sdk:sqs:deleteMessage"] = 5
    assert replay(evaluate, aws)["left"] == 1
    aws = Aws(lambda _: ANSWERS["newer"], messages=1)
    aws.refused["aws-sdk:sqs:changeMessageVisibility"] = 5
    aws.refused["aws-sdk:sqs:changeMessageVisibilityBatch"] = 5
    assert replay(evaluate, aws)["left"] == 0


# --- all of it ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MACHINES)
def test_every_expression_was_evaluated(
    evaluate: Jsonata, name: str, request: pytest.FixtureRequest
) -> None:
    """By the tests above; only the errors of the Map states themselves are not reached."""
    others = [
        each.nodeid
        for each in request.session.items
        if each.path == Path(__file__) and "every_expression" not in each.nodeid
    ]
    if not set(others) <= RAN:
        pytest.skip("not all tests of this file ran in this process")
    machine = definition(name)
    unreached = set()
    for each in machine["States"].values():
        if each["Type"] == "Map":
            unreached |= set(expressions(each.get("Catch", [])))
    missed = set(expressions(machine)) - evaluate.evaluated - unreached
    assert not missed
    for expression in unreached & evaluate.evaluated:
        pytest.fail(f"reached after all: {expression}")
