"""What init does not import, and what it uses instead."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import BaseError

from thumbnailer.deferred_imports import NAMES, defer
from thumbnailer.sha256 import sha256
from thumbnailer.storage import obstore_bucket, use_one_ca_bundle

LAMBDA = Path(__file__).parent.parent / "lambda"

PROGRAM = """
import sys
import handler
from PIL import ExifTags, Image
import base64, ipaddress, subprocess
assert not any(sys.modules[name].__spec__ for name in NAMES), "imported at init"
assert sys.modules["PIL.ExifTags"] is ExifTags
exif = Image.Exif()
exif[ExifTags.Base.Orientation] = 6
image = Image.new("RGB", (2, 1))
image.info["exif"] = exif.tobytes()
assert image.getexif() == {0x0112: 6}
assert base64.b64encode(b"a") == b"YQ=="
assert str(ipaddress.ip_address("::1")) == "::1"
assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
from subprocess import CompletedProcess
assert CompletedProcess is subprocess.CompletedProcess
assert not hasattr(subprocess, "missing")
assert all(sys.modules[name].__spec__ for name in NAMES), "still a stand-in"
import PIL
assert PIL.ExifTags.Base is ExifTags.Base
"""


def test_a_deferred_module_is_imported_when_it_is_used() -> None:
    """Init imports none of them. Each then has what the module has, under both of its names."""
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"NAMES = {NAMES}" + PROGRAM],
        cwd=LAMBDA,
        env={"OUTPUT_BUCKET": "output", "DLQ_URL": "https://sqs.example/1/dead-letters"},
        check=True,
    )


def test_a_module_that_is_imported_already_stays() -> None:
    """In the command and in tests, whatever uses the module keeps the module itself."""
    defer("subprocess")
    assert sys.modules["subprocess"] is subprocess


@given(st.binary())
def test_hashes_are_those_of_hashlib(data: bytes) -> None:
    """Fingerprints and marks of deployed stacks were made by hashlib."""
    assert sha256(data).digest() == hashlib.sha256(data).digest()


def test_clients_read_one_ca_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first bundle that exists, and only what the environment names if it names something.

    A client that is told of a file reads no folder: with an empty file it has no certificates.
    """
    bundle = tmp_path / "bundle.crt"
    bundle.touch()
    monkeypatch.setattr(obstore_bucket, "CA_BUNDLES", (str(tmp_path / "none"), str(bundle)))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, "mine")
        use_one_ca_bundle()
        assert os.environ[name] == "mine"
        monkeypatch.delenv(name)
    assert "SSL_CERT_FILE" not in os.environ
    use_one_ca_bundle()
    assert os.environ["SSL_CERT_FILE"] == str(bundle)
    with pytest.raises(BaseError, match="builder error"):
        obstore_bucket.ObstoreBucket("bucket", 1.0)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr(obstore_bucket, "CA_BUNDLES", ())
    use_one_ca_bundle()
    assert "SSL_CERT_FILE" not in os.environ
