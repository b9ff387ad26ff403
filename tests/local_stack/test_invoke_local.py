"""`make local`: the built function invoked in AWS's runtime client, on the local stack."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from pictures import jpeg
from serving import processes_of

from image_pipeline.cli.app import run_app
from image_pipeline.local import invocation
from image_pipeline.local.stack import LocalStack
from image_pipeline.local.tools import REPOSITORY
from image_pipeline.stack.deployed import Stack
from tools import invoke_local

pytestmark = pytest.mark.local_stack

EVENT = REPOSITORY / "tests" / "sample_event.json"
SCRIPT = REPOSITORY / "scripts" / "invoke_local.sh"

type Invoke = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke(local: LocalStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run the command in this process, on the running stack: `invoke(event, "--json")`."""
    monkeypatch.setenv("IMAGE_PIPELINE_DIRECTORY", str(local.directory))

    def run(event: object, *options: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "event.json"
        path.write_text(json.dumps(event))
        monkeypatch.setattr(sys, "argv", ["invoke", str(path), *options])
        with (
            redirect_stdout(io.StringIO()) as stdout,
            redirect_stderr(io.StringIO()) as stderr,
            pytest.raises(SystemExit) as left,
        ):
            run_app(invoke_local.app)
        assert isinstance(left.value.code, int)
        return subprocess.CompletedProcess(
            [], left.value.code, stdout.getvalue(), stderr.getvalue()
        )

    return run


def direct(key: str, bucket: str = "anyone's") -> Any:
    """An event that names one object."""
    return {"uploads": [{"bucket": bucket, "key": key}]}


def test_without_a_stack_one_is_started_for_the_invocation(tmp_path: Path) -> None:
    """The script makes the sample event's thumbnails, reports them, and leaves nothing running.

    The metrics show that this invocation made them.
    """
    done = subprocess.run(  # noqa: S603 - our own script
        [SCRIPT, EVENT, "--json"],
        env=os.environ | {"IMAGE_PIPELINE_DIRECTORY": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    [processed] = report["result"]["processed"]
    assert processed["key"] == "uploads/photo.jpg"
    assert [each["width"] for each in processed["thumbnails"]] == [128, 512]
    assert [line["action"] for line in report["log"]] == ["init", "start", "complete"]
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    assert metrics["thumbnails_count"]["values"] == [2]
    assert metrics["cold_starts"]["values"] == [1]
    assert metrics["duration_ms"]["unit"] == "Milliseconds"
    assert metrics["duration_ms"]["dimensions"] == {"FunctionName": "image-pipeline-thumbnail"}
    timings = report["timings"]
    assert timings["billed_ms"] >= timings["init_ms"] + timings["duration_ms"] > 0
    assert timings["max_memory_mb"] > 0
    assert "as uploads/photo.jpg, which does not exist yet" in done.stderr
    assert processes_of(tmp_path) == []


def test_an_existing_object_is_kept_and_processed_again(invoke: Invoke, stack: Stack) -> None:
    """An upload of the user is not overwritten; its thumbnails are made again each time."""
    key = "uploads/own/photo.jpg"
    body = jpeg((300, 200))
    etag = stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=key, Body=body)["ETag"]
    for _ in range(2):
        done = invoke(direct(key), "--json")
        assert done.returncode == 0
        [processed] = json.loads(done.stdout)["result"]["processed"]
        assert stack.aws.s3.head_object(Bucket=stack.input_bucket, Key=key)["ETag"] == etag
        for thumbnail in processed["thumbnails"]:
            head = stack.aws.s3.head_object(
                Bucket=stack.settings.output_bucket, Key=thumbnail["key"]
            )
            assert head["ContentLength"] == thumbnail["bytes"]
    assert "bucket image-pipeline-input in place of the event's anyone's" in done.stderr


def test_the_report_has_four_sections(invoke: Invoke) -> None:
    """Result, log, metrics and timings, each under its heading; notes go to standard error."""
    done = invoke(direct("uploads/seen.jpg"))
    assert done.returncode == 0
    headings = re.findall(r"^(\w+) ─+$", done.stdout, re.MULTILINE)
    assert headings == ["Result", "Log", "Metrics", "Timings"]
    assert re.search(r"thumbnails_count +Count +2", done.stdout)
    assert re.search(r"max memory +\d+ of 512 MB", done.stdout)
    assert "seen_128w.webp: the invocation makes them again" not in done.stdout


def test_nothing_is_uploaded_outside_the_prefix(invoke: Invoke, stack: Stack) -> None:
    """The function skips such keys without reading them, so no object is needed."""
    done = invoke(direct("not-uploads/photo.jpg"), "--json")
    assert (
        json.loads(done.stdout)["result"]["skipped"][0]["reason"] == "outside the prefix uploads/"
    )
    listed = stack.aws.s3.list_objects_v2(Bucket=stack.input_bucket, Prefix="not-uploads/")
    assert listed["KeyCount"] == 0


def test_a_failed_function_is_shown_and_fails_the_command(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 and the function's error, as text and as JSON."""
    working = invocation.environment
    monkeypatch.setattr(
        invocation, "environment", lambda *given: working(*given) | {"THUMB_SIZES": "wide"}
    )
    shown = invoke(direct("uploads/a.jpg"))
    assert shown.returncode == 1
    assert re.search(r"^Error ─+\nInvalidSettings", shown.stdout, re.MULTILINE)
    failed = invoke(direct("uploads/a.jpg"), "--json")
    assert failed.returncode == 1
    assert "THUMB_SIZES" in json.loads(failed.stdout)["error"]["message"]
    assert json.loads(failed.stdout)["result"] is None
