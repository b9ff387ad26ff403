"""The check that the deployed code is the artefact of `sam build`, for this machine."""

import json
import platform
from pathlib import Path

import pytest

from thumbnailer import build_check
from thumbnailer.errors import InvalidPackage


def test_an_unbuilt_package_says_how_to_build(tmp_path: Path) -> None:
    """Plain source has no stamp: init fails and names the command."""
    with pytest.raises(InvalidPackage, match="sam build"):
        build_check.check(tmp_path)


def test_the_wrong_architecture_names_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built for arm64, running on x86_64: build again, or deploy with the other parameter."""
    (tmp_path / build_check.STAMP).write_text(json.dumps({"architecture": "arm64"}))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(InvalidPackage) as raised:
        build_check.check(tmp_path)
    assert "LAMBDA_ARCHITECTURE=x86_64" in str(raised.value)
    assert "LambdaArchitecture=arm64" in str(raised.value)


@pytest.mark.parametrize(("machine", "name"), [("aarch64", "arm64"), ("x86_64", "x86_64")])
def test_the_right_architecture_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    """Lambda and Linux call the same machine differently."""
    (tmp_path / build_check.STAMP).write_text(json.dumps({"architecture": name}))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    build_check.check(tmp_path)
