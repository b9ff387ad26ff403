"""Shared by all tests: a clean environment, and S3 and SQS on the loopback interface."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from aws_names import INPUT, OUTPUT
from hypothesis import settings

# A background job of a script starts with SIGINT ignored. Every command that a test starts would
# inherit that, and Ctrl-C would have no effect.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# This comes before any import of the handler, which reads its settings when it is imported. A
# developer's own AWS account or configuration must not leak into a test.
for name in [name for name in os.environ if name.startswith(("AWS_", "POWERTOOLS_"))]:
    del os.environ[name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "OUTPUT_BUCKET": OUTPUT,
    "DLQ_URL": "http://127.0.0.1:9/000000000000/unset",
}


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Start moto's server and yield its URL.

    A server is needed because obstore is not boto3: moto's patches in this process would miss it.
    """
    import logging  # noqa: PLC0415

    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - half a second

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point all clients of this process at an empty AWS, and yield its URL."""
    from thumbnailer.storage import s3_bucket  # noqa: PLC0415

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    s3_bucket.kept_client.cache_clear()
    requests.post(f"{moto_endpoint}/moto-api/reset", timeout=10).raise_for_status()
    yield moto_endpoint
    s3_bucket.kept_client.cache_clear()


@pytest.fixture
def s3(aws: str) -> Any:
    """Return an S3 client of the empty AWS, in which both buckets exist."""
    client = boto3.client("s3", endpoint_url=aws)
    for bucket in (INPUT, OUTPUT):
        client.create_bucket(Bucket=bucket)
    return client


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv reach no package index, and have no package in its cache."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on it
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def pytest_xdist_auto_num_workers() -> int:
    """Use one worker more than cores: tests of the local stack wait most of their time."""
    return (os.process_cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stop the run if a test has no docstring, because the docstring states the test's claim."""
    without_claim = [item.nodeid for item in items if not getattr(item, "function", item).__doc__]
    if without_claim:
        raise pytest.UsageError(f"State the claim in a docstring: {without_claim}")
