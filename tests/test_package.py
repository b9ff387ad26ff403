"""`image-pipeline package`: the zips, and the template that needs no other file."""

import hashlib
import io
import json
import os
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import template
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from image_pipeline.build import package as packaging
from image_pipeline.build import tools
from image_pipeline.build.package import launch_url, packaged_template, read_template
from image_pipeline.cli import main
from image_pipeline.local.tools import architecture
from thumbnailer.build_check import STAMP

IAC = template.PATH.parent
CODE = "0123456789abcdef" * 4
KEY = "releases/function-${LambdaArchitecture}.zip"
BOTH = ["arm64", "x86_64"]


def run(*words: object) -> tuple[int, str, str]:
    """Run the command in this process; its exit code and what it prints."""
    arguments = ["image-pipeline", *map(str, words)]
    code, out, err = 0, io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A package for this machine's architecture, and what the command printed about it."""
    folder = tmp_path_factory.mktemp("package")
    code, printed, errors = run(
        *("package", "--out", folder, "--architecture", architecture(), "--json"),
        *("--bucket", "releases-{region}", "--prefix", "image-pipeline/"),
    )
    assert code == 0, errors
    return folder, json.loads(printed)


def test_the_zip_is_the_built_function(made: tuple[Path, dict[str, Any]]) -> None:
    """For the architecture, of this version, with the checksum that the command shows."""
    folder, shown = made
    (function,) = shown["functions"]
    content = Path(function["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == function["sha256"]
    assert len(content) == function["bytes"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {"handler.py", "thumbnailer/handler.py", STAMP} <= set(archive.namelist())
        stamp = json.loads(archive.read(STAMP))
    assert stamp == {"architecture": architecture(), "version": shown["version"]}
    assert {path.name for path in folder.iterdir()} == {
        Path(shown["template"]).name,
        Path(function["file"]).name,
    }


def test_the_template_names_the_zip(made: tuple[Path, dict[str, Any]]) -> None:
    """By its key, in the bucket of the stack's region, and allows no other architecture."""
    _, shown = made
    written = json.loads(Path(shown["template"]).read_text())
    (function,) = shown["functions"]
    code = written["Resources"]["ThumbnailFunction"]["Properties"]["CodeUri"]
    named = code["Key"]["Fn::Sub"].replace("${LambdaArchitecture}", architecture())
    assert named == function["key"]
    assert code["Bucket"]["Fn::If"][2] == {"Fn::Sub": "releases-${AWS::Region}"}
    assert written["Parameters"]["LambdaArchitecture"]["AllowedValues"] == [architecture()]
    query = parse_qs(urlsplit(shown["launch_url"]).fragment.partition("?")[2])
    assert query["templateURL"] == [
        f"https://s3.us-east-1.amazonaws.com/releases-us-east-1/{shown['template_key']}"
    ]


def test_the_same_files_give_the_same_zip(tmp_path: Path) -> None:
    """Whatever their times, modes and order are, and wherever they lie."""
    zips = []
    for number, names in enumerate((["b/c.py", "a.py", "b/d.so"], ["b/d.so", "b/c.py", "a.py"])):
        folder = tmp_path / f"build-{number}"
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name * 100)
            path.chmod(0o644 if number else 0o755)
            os.utime(path, (10**9 * number, 10**9 * number))
        zips.append(packaging._zipped(folder, "arm64"))  # noqa: SLF001 - a build takes long
    assert zips[0].sha256 == zips[1].sha256
    with zipfile.ZipFile(zips[0].path) as archive:
        assert archive.namelist() == ["a.py", "b/c.py", "b/d.so"]
        assert {each.external_attr >> 16 for each in archive.infolist()} == {0o100644}


# --- the template -------------------------------------------------------------------------------
def packaged(bucket: str | None = None, architectures: list[str] = BOTH) -> dict[str, Any]:
    """The packaged template, without a build."""
    return packaged_template(IAC, KEY, CODE, architectures, bucket)


def test_the_template_is_read_as_sam_reads_it() -> None:
    """Tags become the long forms of the functions, and aliases what they stand for."""
    assert read_template(template.PATH) == template.source()


def test_a_stack_of_the_package_is_that_of_the_source() -> None:
    """SAM makes the same resources and outputs of both, but for what a package is about.

    The logical ids are equal, so that a stack can be updated from either to the other. Only the
    version of the function has another id, as after any change of the code.
    """
    values = template.parameters(**template.VARIANTS["everything"])
    source = template.translated(values)
    session = boto3.session.Session(region_name="us-east-1")
    whole: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(
        packaged(), values | {"CodeBucket": "my-bucket"}
    )
    function = whole["Resources"]["ThumbnailFunction"]
    assert function["Properties"].pop("Code") == {
        "S3Bucket": "my-bucket",
        "S3Key": {"Fn::Sub": KEY.replace("${LambdaArchitecture}", "arm64")},
    }
    description = function["Properties"].pop("Description")
    original = source["Resources"]["ThumbnailFunction"]
    assert description == f"{original['Properties'].pop('Description')} {CODE}"
    del original["Properties"]["Code"], original["Metadata"]["BuildMethod"]
    for name in ("ReplayStateMachine", "BackfillStateMachine"):
        properties = whole["Resources"][name]["Properties"]
        separator, lines = properties.pop("DefinitionString")["Fn::Join"]
        file = IAC / template.source()["Resources"][name]["Properties"]["DefinitionUri"]
        assert json.loads(separator.join(lines)) == json.loads(file.read_text())
        del source["Resources"][name]["Properties"]["DefinitionS3Location"]
    versions = [
        next(name for name in each["Resources"] if name.startswith("ThumbnailFunctionVersion"))
        for each in (source, whole)
    ]
    assert versions[1].endswith(CODE[:10])
    renamed = json.loads(json.dumps(source).replace(*versions))
    for section in ("Resources", "Outputs", "Rules", "Mappings", "Conditions"):
        assert whole[section] == renamed[section], section
    assert whole["Parameters"].keys() - renamed["Parameters"].keys() == {"CodeBucket"}


def test_the_template_names_no_other_file() -> None:
    """Nothing is left that `sam package` would have to upload, and each parameter has a group."""
    made = packaged()
    kinds = [each.get("Properties", {}) for each in made["Resources"].values()]
    assert not [each for each in kinds if "DefinitionUri" in each]
    uris = [each["CodeUri"] for each in kinds if "CodeUri" in each]
    assert uris == [{"Bucket": {"Ref": "CodeBucket"}, "Key": {"Fn::Sub": KEY}}]
    groups = made["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert {name for each in groups for name in each["Parameters"]} == set(made["Parameters"])
    assert len(json.dumps(made, indent=1)) < packaging.MAX_TEMPLATE


@pytest.mark.parametrize(
    ("bucket", "default"), [(None, None), ("my-bucket", "my-bucket"), ("all-{region}", "")]
)
def test_the_bucket_is_a_parameter(bucket: str | None, default: str | None) -> None:
    """Its default is the bucket of --bucket; none without it, and the publisher's with a region."""
    made = packaged(bucket)
    parameter = made["Parameters"]["CodeBucket"]
    assert parameter.get("Default") == default
    name = made["Resources"]["ThumbnailFunction"]["Properties"]["CodeUri"]["Bucket"]
    if default == "":
        assert name == {
            "Fn::If": ["HasCodeBucket", {"Ref": "CodeBucket"}, {"Fn::Sub": "all-${AWS::Region}"}]
        }
        assert "HasCodeBucket" in made["Conditions"]
    else:
        assert name == {"Ref": "CodeBucket"}


def test_both_architectures_are_a_choice_of_the_user() -> None:
    """As in the source; a package of one allows only that one."""
    source = template.source()["Parameters"]["LambdaArchitecture"]
    assert packaged()["Parameters"]["LambdaArchitecture"] == source
    one = packaged(architectures=["x86_64"])["Parameters"]["LambdaArchitecture"]
    assert (one["Default"], one["AllowedValues"]) == ("x86_64", ["x86_64"])


# --- the command --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--architecture", "mips"), "not arm64 or x86_64"),
        (("--bucket", "My_Bucket"), "not the name of a bucket"),
        (("--bucket", "a-{account}"), "not the name of a bucket"),
        (("--prefix", "/a"), "not a prefix"),
        (("--prefix", "${a}"), "not a prefix"),
    ],
)
def test_wrong_options_are_refused_before_the_build(
    tmp_path: Path, words: tuple[str, str], message: str
) -> None:
    """With exit code 2 and the reason, and nothing is written."""
    code, _, errors = run("package", "--out", tmp_path / "out", *words)
    assert code == 2
    assert message in " ".join(errors.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_build_that_fails_leaves_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where uv fails, the message says what could not be done, and nothing half-made stays."""
    monkeypatch.setattr(tools, "find_uv", lambda _: "false")
    code, _, errors = run("package", "--out", tmp_path / "out")
    assert code == 1
    assert "libraries could not be installed" in " ".join(errors.split())
    assert list((tmp_path / "out").iterdir()) == []


def test_the_launch_link_escapes_what_a_link_cannot_have() -> None:
    """The template's address is one value of the query, whatever characters it has."""
    link = launch_url("b", "a b/c&d.json", "eu-west-1")
    query = parse_qs(urlsplit(link).fragment.partition("?")[2])
    assert query["templateURL"] == ["https://s3.eu-west-1.amazonaws.com/b/a%20b/c%26d.json"]
    assert urlsplit(link).hostname == "eu-west-1.console.aws.amazon.com"
