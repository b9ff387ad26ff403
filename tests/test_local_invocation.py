"""tools/invoke_local.py: which events it accepts, how it reads a log, what it refuses."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.local import docker
from image_pipeline.local.docker import check_docker
from image_pipeline.local.function_log import Metric, read_log
from image_pipeline.local.invocation import read_event, redirected
from thumbnailer.events import parse

S3 = {"s3": {"bucket": {"name": "prod", "arn": "arn:aws:s3:::prod"}, "object": {"key": "prod"}}}
NOTIFICATION = {"Records": [{"eventSource": "aws:s3", **S3}]}
SNS = {"Type": "Notification", "Message": json.dumps(NOTIFICATION)}
EMF = {
    "_aws": {
        "Timestamp": 1,
        "CloudWatchMetrics": [
            {
                "Namespace": "ImagePipeline",
                "Dimensions": [["FunctionName"]],
                "Metrics": [
                    {"Name": "duration_ms", "Unit": "Milliseconds"},
                    {"Name": "plain"},
                    {"Name": "missing", "Unit": "Count"},
                ],
            }
        ],
    },
    "FunctionName": "f",
    "duration_ms": [1.5, 2],
    "plain": 3,
}


def test_the_function_accepts_the_sample_event() -> None:
    """The event that `make local` uses by default names a photo under the default prefix."""
    event = read_event(Path(__file__).with_name("sample_event.json"))
    assert [upload.key for upload in parse(event).uploads] == ["uploads/photo.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"Records": [', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"records": []}', "is not an event that the function accepts"),
        (b'{"uploads": [{"bucket": "b"}]}', r"uploads\[0\]: the key must be text"),
    ],
)
def test_a_file_without_an_event_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and what is wrong with it."""
    path = tmp_path / "event.json"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=message) as raised:
        read_event(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message names the file and the system's error."""
    with pytest.raises(CommandError, match=r"no\.json cannot be read: No such file"):
        read_event(tmp_path / "no.json")


@pytest.mark.parametrize(
    "event",
    [
        NOTIFICATION,
        {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps(SNS)}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(NOTIFICATION)}}]},
        {
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "prod"}, "object": {"key": "prod"}},
        },
        {"requestContext": {}, "requestPayload": NOTIFICATION},
        {"bucket": "prod", "key": "prod", "error": {}, "attempts": 1},
        {"uploads": [{"bucket": "prod", "key": "prod"}]},
    ],
    ids=["s3", "sns in sqs", "sns", "eventbridge", "onfailure", "dead letter", "direct"],
)
def test_every_event_shape_is_redirected(event: Any) -> None:
    """In every wrapping the bucket becomes the local one; an equal key stays as it is."""
    before = json.dumps(event)
    [upload] = parse(redirected(event, "local")).uploads
    assert (upload.bucket, upload.key) == ("local", "prod")
    assert "aws:s3:::prod" not in json.dumps(redirected(event, "local"))
    assert json.dumps(event) == before


def test_an_unreadable_message_is_passed_on() -> None:
    """A message of a batch that is not JSON stays as it is: the function reports it."""
    event = {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "nonsense"}]}
    assert redirected(event, "local") == event


def test_log_lines_and_metrics_are_separated() -> None:
    """JSON objects are decoded, other lines stay; a line of metrics (EMF) is not a log line.

    A metric without a unit has CloudWatch's `None`; one without a value is left out.
    """
    lines = ["plain text", '{"action": "start"}', json.dumps(EMF), '"text"', '{"_aws": 1}']
    log, metrics = read_log(lines)
    assert log == ["plain text", {"action": "start"}, '"text"', {"_aws": 1}]
    of = ("ImagePipeline", {"FunctionName": "f"})
    assert metrics == [
        Metric(*of, "duration_ms", "Milliseconds", [1.5, 2]),
        Metric(*of, "plain", "None", [3]),
    ]


@pytest.mark.parametrize("client", [None, "#!/bin/sh\nexit 1", "#!/bin/sh\nexec sleep 60"])
def test_without_a_docker_daemon_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str | None
) -> None:
    """Also where the client finds no daemon, and where it hangs: leave out --docker."""
    if client:
        (tmp_path / "docker").write_text(client)
        (tmp_path / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(docker, "DOCKER_SECONDS", 0.2)
    with pytest.raises(CommandError, match="leave out --docker"):
        check_docker()


def test_the_script_has_help() -> None:
    """`--help` works from any directory and shows examples."""
    script = Path(__file__).parents[1] / "scripts" / "invoke_local.sh"
    done = subprocess.run(  # noqa: S603 - our own script
        [script, "--help"], cwd="/", capture_output=True, text=True, check=True
    )
    assert "scripts/invoke_local.sh tests/sample_event.json" in done.stdout
    assert "--docker" in done.stdout
