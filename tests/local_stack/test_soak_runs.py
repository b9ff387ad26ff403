"""Short soak tests of the deployed stack: no upload is lost, even with faults and crashes."""

import pytest

from soak.__main__ import run
from soak.faults import Fault

pytestmark = [pytest.mark.local_stack, pytest.mark.slow]


def test_every_upload_is_accounted_for() -> None:
    """Each of 300 uploads, some broken, overwritten or deleted, has thumbnails or a message.

    Without faults an upload costs about a GET, a PUT for each width and the HEAD that
    delete-with-original needs. Overwrites cost more.
    """
    report = run(images=300, seed=1, share=0.0, concurrency=4)
    assert report.accounts.faults == []
    assert report.accounts.uploads == 300
    assert report.accounts.needless_letters == 0
    assert 1 <= report.requests["GET"] <= 1.15
    assert report.requests["PUT"] <= 2.2
    assert report.requests["HEAD"] <= 1.6


def test_faults_and_killed_environments_lose_nothing() -> None:
    """A tenth of the function's requests fail, in eight ways, and environments are killed."""
    report = run(images=200, seed=2, share=0.1, concurrency=4, kill=True)
    assert report.accounts.faults == []
    assert len(report.faults_met) >= len(Fault) - 1
    assert report.killed
