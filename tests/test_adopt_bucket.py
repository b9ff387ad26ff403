"""`image-pipeline adopt-bucket`: an existing bucket gets what a stack needs, and loses nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from home import Home
from hypothesis import given
from hypothesis import strategies as st

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import adopt
from image_pipeline.stack.adopt import CONSOLE_ORIGINS, MAX_RULES, Changes
from image_pipeline.stack.aws import AccessKey, Aws

BUCKET = "somebodys-photos"

CONSOLE_RULE = {
    "AllowedMethods": ["PUT"],
    "AllowedOrigins": list(CONSOLE_ORIGINS),
    "AllowedHeaders": ["*"],
}

RULES: list[dict[str, Any]] = [
    {
        "ID": "site",
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedOrigins": ["https://www.example.com"],
        "AllowedHeaders": ["Range"],
        "ExposeHeaders": ["ETag", "Content-Range"],
        "MaxAgeSeconds": 600,
    },
    {"AllowedMethods": ["PUT"], "AllowedOrigins": ["https://admin.example.com"]},
]


@pytest.fixture(autouse=True)
def reports_event_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto's GetBucketNotificationConfiguration return EventBridge's part, as S3's does."""
    from moto.s3.responses import S3Response  # noqa: PLC0415 - half a second

    get = S3Response.get_bucket_notification

    def get_all(self: Any) -> Any:
        stored = self.backend.get_bucket_notification_configuration(self.bucket_name)
        serialized = self.serialized

        def with_event_bridge(answer: Any) -> Any:
            if stored and stored.event_bridge is not None:
                answer.result["EventBridgeConfiguration"] = {}
            return serialized(answer)

        self.serialized = with_event_bridge
        return get(self)

    monkeypatch.setattr(S3Response, "get_bucket_notification", get_all)


@pytest.fixture
def bucket(aws: str) -> Aws:
    """An AWS with a bucket that has neither notifications nor CORS rules."""
    local = Aws.local(aws, AccessKey("testing", "testing"))
    local.s3.create_bucket(Bucket=BUCKET)
    return local


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The command, where no local stack is running: it works on the account."""
    return Home(tmp_path / "home", 1)


def notifications(aws: Aws) -> dict[str, Any]:
    """What the bucket has."""
    answer: Any = aws.s3.get_bucket_notification_configuration(Bucket=BUCKET)
    del answer["ResponseMetadata"]
    return dict(answer)


def rules(aws: Aws) -> list[Any]:
    """The bucket's CORS rules."""
    try:
        return list(aws.s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"])
    except ClientError:
        return []


def configure(aws: Aws) -> dict[str, Any]:
    """Give the bucket a notification of each kind, and CORS rules; the notifications."""
    account = {"endpoint_url": aws.endpoint_url, "region_name": "us-east-1"}
    topic = boto3.client("sns", **account).create_topic(Name="topic")["TopicArn"]
    aws.sqs.create_queue(QueueName="queue")
    given: Any = {
        "QueueConfigurations": [
            {
                "Id": "queue",
                "QueueArn": "arn:aws:sqs:us-east-1:123456789012:queue",
                "Events": ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"],
                "Filter": {
                    "Key": {
                        "FilterRules": [
                            {"Name": "prefix", "Value": "in é/"},
                            {"Name": "suffix", "Value": ".jpg"},
                        ]
                    }
                },
            }
        ],
        "TopicConfigurations": [
            {"Id": "topic", "TopicArn": topic, "Events": ["s3:ObjectRestore:Completed"]}
        ],
        "LambdaFunctionConfigurations": [
            {
                "Id": "function",
                "LambdaFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:other",
                "Events": ["s3:ObjectCreated:*"],
            }
        ],
    }
    aws.s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration=given, SkipDestinationValidation=True
    )
    aws.s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": RULES})  # type: ignore[typeddict-item]  # as S3 returns them
    return notifications(aws)


def canonical(value: object) -> str:
    """A configuration as text, to be compared byte for byte."""
    return json.dumps(value, sort_keys=True)


def test_an_empty_bucket_gets_events_and_a_rule(bucket: Aws, home: Home) -> None:
    """EventBridge is on, and the console's pages may PUT."""
    answer = home.json("adopt-bucket", BUCKET, "--yes")
    assert answer == {
        "bucket": BUCKET,
        "endpoint_url": None,
        "event_bridge": True,
        "cors_rule": CONSOLE_RULE,
        "changed": True,
    }
    assert notifications(bucket) == {"EventBridgeConfiguration": {}}
    assert rules(bucket) == [CONSOLE_RULE]


def test_everything_that_is_configured_stays(bucket: Aws, home: Home) -> None:
    """Queues, topics, functions with their filters, and CORS rules: byte for byte, in order."""
    before = configure(bucket)
    assert len(before) == 3
    home.json("adopt-bucket", BUCKET, "--yes")
    after = notifications(bucket)
    assert after.pop("EventBridgeConfiguration") == {}
    assert canonical(after) == canonical(before)
    *kept, added = rules(bucket)
    assert canonical(kept) == canonical(RULES)
    assert added == CONSOLE_RULE


def test_a_second_run_changes_nothing(bucket: Aws, home: Home) -> None:
    """It says so, writes nothing, and asks nothing."""
    configure(bucket)
    home.json("adopt-bucket", BUCKET, "--yes")
    before = (notifications(bucket), rules(bucket))
    done = home.run("adopt-bucket", BUCKET)
    assert done.returncode == 0
    assert "Nothing to change" in done.stdout
    again = home.json("adopt-bucket", BUCKET)
    assert (again["event_bridge"], again["cors_rule"], again["changed"]) == (False, None, False)
    assert (notifications(bucket), rules(bucket)) == before


def test_a_dry_run_shows_the_changes_and_makes_none(bucket: Aws, home: Home) -> None:
    """For a person and for a script; without --yes, because nothing is asked."""
    before = configure(bucket)
    done = home.run("adopt-bucket", BUCKET, "--dry-run")
    assert done.returncode == 0
    assert "EventBridge" in done.stdout
    assert json.dumps(CONSOLE_RULE) in done.stdout
    answer = home.json("adopt-bucket", BUCKET, "--dry-run")
    assert (answer["event_bridge"], answer["changed"]) == (True, False)
    assert notifications(bucket) == before
    assert rules(bucket) == RULES


def test_other_sites_may_be_named(bucket: Aws, home: Home) -> None:
    """--origin replaces the console's origins; one that a rule allows already is not added."""
    sites = ("--origin", "https://a.example.com", "--origin", "https://b.example.com")
    home.json("adopt-bucket", BUCKET, "--yes", *sites[:2])
    home.json("adopt-bucket", BUCKET, "--yes", *sites)
    assert [each["AllowedOrigins"] for each in rules(bucket)] == [
        ["https://a.example.com"],
        ["https://b.example.com"],
    ]


def test_a_missing_bucket_is_named(aws: str, home: Home) -> None:
    """One message, exit code 1."""
    assert aws
    done = home.run("adopt-bucket", "no-such-bucket", "--yes", "--region", "eu-west-1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no bucket no-such-bucket in eu-west-1." in done.stderr


@pytest.mark.parametrize("operation", ["GetBucketCors", "PutBucketNotificationConfiguration"])
def test_denied_access_names_the_permissions(bucket: Aws, operation: str) -> None:
    """Whichever request is denied, the message says all that is needed."""

    def deny(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    bucket.s3.meta.events.register(f"before-call.s3.{operation}", deny)
    with pytest.raises(NotPermitted, match=f"s3:PutBucketCORS on {BUCKET}"):
        adopt.apply(bucket, BUCKET, adopt.plan(bucket, BUCKET))


def test_without_a_terminal_it_must_be_told_yes(bucket: Aws, home: Home) -> None:
    """Nobody can answer, so nothing is changed."""
    done = home.run("adopt-bucket", BUCKET)
    assert done.returncode == 1
    assert "Not a terminal: pass --yes to start without asking." in done.stderr
    assert notifications(bucket) == {}


@pytest.mark.parametrize(
    ("answer", "code"), [(b"n\n", 1), (b"y\n", 0), (b"\n", 1), (b"\x04", 1), (b"\x03", 130)]
)
def test_it_asks_before_it_changes_anything(
    bucket: Aws, home: Home, answer: bytes, code: int
) -> None:
    """A no and the end of the input exit with 1, Ctrl-C with 130; the bucket is as it was."""
    answers = {"Change the bucket?": answer}
    ended, seen = home.in_a_terminal("adopt-bucket", BUCKET, answers=answers)
    assert ended == code, seen
    assert bool(notifications(bucket)) == (code == 0)
    assert bool(rules(bucket)) == (code == 0)


def test_what_changed_since_the_plan_stays(bucket: Aws) -> None:
    """Configurations are read again before they are written: a rule in between is not lost."""
    changes = adopt.plan(bucket, BUCKET)
    before = configure(bucket)
    adopt.apply(bucket, BUCKET, changes)
    after = notifications(bucket)
    assert after.pop("EventBridgeConfiguration") == {}
    assert after == before
    assert rules(bucket) == [*RULES, CONSOLE_RULE]


def test_only_what_was_shown_is_changed(bucket: Aws) -> None:
    """A plan that leaves the notifications alone does not touch them later either."""
    adopt.apply(bucket, BUCKET, Changes(event_bridge=False, origins=("https://a.example.com",)))
    assert notifications(bucket) == {}
    assert len(rules(bucket)) == 1


def test_a_bucket_with_too_many_rules_is_named(bucket: Aws, monkeypatch: Any) -> None:
    """S3 would refuse one more without saying which limit it is."""
    assert MAX_RULES == 100
    monkeypatch.setattr(adopt, "MAX_RULES", len(RULES))
    configure(bucket)
    with pytest.raises(CommandError, match="S3 allows no more"):
        adopt.apply(bucket, BUCKET, adopt.plan(bucket, BUCKET))


@pytest.mark.parametrize(
    ("rule", "covered"),
    [
        ({}, True),
        ({"AllowedOrigins": ["*"]}, True),
        ({"AllowedOrigins": ["http://*"]}, True),
        ({"AllowedMethods": ["GET", "PUT", "POST"]}, True),
        ({"AllowedHeaders": ["Content-Type"]}, False),
        ({"AllowedMethods": ["POST"]}, False),
        ({"AllowedOrigins": ["http://127.0.0.1:*"]}, False),
        ({"AllowedOrigins": ["http://127.0.0.1:80*", "http://localhost:*"]}, False),
        ({"AllowedOrigins": ["https://*"]}, False),
    ],
)
def test_a_rule_that_allows_it_already_is_recognised(
    bucket: Aws, rule: dict[str, Sequence[str]], covered: bool  # noqa: FBT001 - a parameter
) -> None:
    """By method, headers and origins, each with its wildcard."""
    there: Any = CONSOLE_RULE | rule
    bucket.s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [there]})
    assert (adopt.plan(bucket, BUCKET).origins == ()) == covered


PIECES = st.text("ab:", max_size=3)


@given(PIECES, PIECES, PIECES, PIECES, PIECES)
def test_a_covering_pattern_matches_all_that_the_origin_stands_for(
    before: str, after: str, first: str, last: str, middle: str
) -> None:
    """If a pattern covers an origin with a wildcard, it matches each origin in place of that."""
    pattern, origin = f"{before}*{after}", f"{first}*{last}"
    if adopt._covers(pattern, origin):  # noqa: SLF001
        assert adopt._covers(pattern, first + middle + last)  # noqa: SLF001


def test_a_local_stack_that_is_not_running_is_named(home: Home) -> None:
    """--local means that one."""
    done = home.run("adopt-bucket", BUCKET, "--local")
    assert done.returncode == 1
    assert "image-pipeline up" in done.stderr
