"""The check at init that the deployed code was built, and for this machine."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from thumbnailer import build_check
from thumbnailer.errors import InvalidPackage


def test_an_unbuilt_package_says_how_to_build(tmp_path: Path) -> None:
    """The source has no build.json, so that the error names the command that builds it."""
    with pytest.raises(InvalidPackage, match="sam build"):
        build_check.check(tmp_path)


def test_the_error_for_the_wrong_architecture_names_both_solutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code for arm64 on x86_64: build it again, or deploy it with the other parameter."""
    (tmp_path / build_check.STAMP).write_text(
        json.dumps({"architecture": "arm64", "version": "1.2.3"})
    )
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    with pytest.raises(InvalidPackage) as raised:
        build_check.check(tmp_path)
    assert "LAMBDA_ARCHITECTURE=x86_64" in str(raised.value)
    assert "LambdaArchitecture=arm64" in str(raised.value)


@pytest.mark.parametrize(("machine", "name"), [("aarch64", "arm64"), ("x86_64", "x86_64")])
def test_the_right_architecture_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    """Linux may have another name for the same architecture than Lambda. The version is known."""
    stamp = json.dumps({"architecture": name, "version": "1.2.3"})
    (tmp_path / build_check.STAMP).write_text(stamp)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    assert build_check.check(tmp_path) == "1.2.3"
