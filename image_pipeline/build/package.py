"""Packages the stack for a deploy without its sources: one template, and the function as zips.

CloudFormation takes the template by its URL. It has the state machines in it, and names the zip of
the function by its key in a bucket, which is a parameter. The same source gives the same bytes.
"""

import hashlib
import json
import stat
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from image_pipeline.build.function import build_function, project_version
from image_pipeline.build.sources import Sources

REGION: Final = "{region}"
"""In the name of a bucket: the region of the stack."""

MAX_TEMPLATE: Final = 1_000_000
"""Bytes of a template that CloudFormation takes from a bucket
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html)."""

EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip: the earliest one that the format has."""

DIGITS: Final = 12
"""Hexadecimal digits of the code's digest in the name of a zip. An assumption: they are enough to
tell all builds of one version apart."""


@dataclass(frozen=True, slots=True)
class Zip:
    """The function for one architecture; `sha256` is in hexadecimal, and `bytes` the size."""

    architecture: str
    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Package:
    """What is uploaded: all of it is in one folder."""

    version: str
    template: Path
    zips: tuple[Zip, ...]


def package(  # noqa: PLR0913 - what to package, and how
    sources: Sources,
    folder: Path,
    architectures: Sequence[str],
    *,
    bucket: str | None = None,
    prefix: str = "",
    uv: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Package:
    """Build the function for each of `architectures`, and write zips and template to `folder`.

    The template expects the zips in `bucket` under `prefix`; see `packaged_template`. The name of a
    zip has a digest of the code, so CloudFormation notices other code of the same version. `report`
    is called with a few words about each step.

    Raises BuildError, OSError where a file cannot be read or written, or ValueError if the template
    is larger than CloudFormation takes.
    """
    version = project_version(sources.function.parent / "pyproject.toml")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder) as directory:
        drafts = []
        for architecture in sorted(architectures):
            report(f"Building the function for {architecture}")
            built = Path(directory) / architecture
            build_function(sources.function, built, architecture, uv)
            drafts.append(_zipped(built, architecture))
        code = hashlib.sha256("".join(each.sha256 for each in drafts).encode()).hexdigest()
        name = f"image-pipeline-{version}-function-{code[:DIGITS]}"
        zips = tuple(
            Zip(
                each.architecture,
                each.path.rename(folder / f"{name}-{each.architecture}.zip"),
                each.sha256,
                each.bytes,
            )
            for each in drafts
        )
    report("Writing the template")
    made = packaged_template(
        sources.iac,
        f"{prefix}{name}-${{LambdaArchitecture}}.zip",
        code,
        [each.architecture for each in zips],
        bucket,
    )
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MAX_TEMPLATE:
        raise ValueError(f"The template has more than {MAX_TEMPLATE:,} bytes.")
    template = folder / f"image-pipeline-{version}-template.json"
    template.write_text(text, encoding="utf-8")
    return Package(version, template, zips)


def packaged_template(
    iac: Path, key: str, code: str, architectures: Sequence[str], bucket: str | None = None
) -> dict[str, Any]:
    """Return the template in `iac`, complete in itself but for the function's code.

    `key` is the key of the code's zip, as a text for Fn::Sub, and `code` a SHA-256 of the code in
    hexadecimal. The parameter CodeBucket is `bucket` by default; without one it must be given. With
    `{region}` in `bucket`, the default is the bucket of the stack's own region.
    """
    template = read_template(iac / "template.yaml")
    parameters, resources = template["Parameters"], template["Resources"]
    parameters["CodeBucket"], name = _code_bucket(bucket, template["Conditions"])
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    groups.append({"Label": {"default": "Code"}, "Parameters": ["CodeBucket"]})
    if len(architectures) == 1:
        parameters["LambdaArchitecture"] |= {
            "Default": architectures[0],
            "AllowedValues": [*architectures],
        }
    function = resources["ThumbnailFunction"]
    del function["Metadata"]["BuildMethod"]
    function["Properties"]["CodeUri"] = {"Bucket": name, "Key": {"Fn::Sub": key}}
    # Of the code alone: Lambda publishes no second version of it, whatever bucket it comes from.
    function["Properties"]["AutoPublishCodeSha256"] = code
    for machine in resources.values():
        if file := machine.get("Properties", {}).pop("DefinitionUri", None):
            definition = (iac / file).read_text(encoding="utf-8")
            machine["Properties"]["Definition"] = json.loads(definition)
    return template


def read_template(path: Path) -> dict[str, Any]:
    """Return a template, with the long form of each function of CloudFormation."""
    found: dict[str, Any] = _TemplateLoader(path.read_text(encoding="utf-8")).get_single_data()
    return found


def launch_url(bucket: str, key: str, region: str) -> str:
    """Return the address that opens the form for a new stack of the template in a bucket.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-console-create-stacks-quick-create-links.html
    """
    where = bucket.replace(REGION, region)
    template = f"https://s3.{region}.amazonaws.com/{where}/{urllib.parse.quote(key)}"
    query = urllib.parse.urlencode({"templateURL": template, "stackName": "image-pipeline"})
    console = f"https://{region}.console.aws.amazon.com/cloudformation/home?region={region}"
    return f"{console}#/stacks/create/review?{query}"


def _code_bucket(
    bucket: str | None, conditions: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameter CodeBucket, and the name of the bucket as the template computes it.

    `conditions` gets the condition that this needs.
    """
    parameter: dict[str, Any] = {
        "Type": "String",
        "Description": "Bucket with the zips of the function, in the region of the stack",
        "AllowedPattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "ConstraintDescription": "must be the name of an S3 bucket",
    }
    given: dict[str, Any] = {"Ref": "CodeBucket"}
    if bucket is None:
        return parameter, given
    if REGION not in bucket:
        return parameter | {"Default": bucket}, given
    conditions["HasCodeBucket"] = {"Fn::Not": [{"Fn::Equals": [given, ""]}]}
    own = {"Fn::Sub": bucket.replace(REGION, "${AWS::Region}")}
    parameter |= {
        "Default": "",
        "Description": f"{parameter['Description']}; empty for the publisher's bucket",
        "AllowedPattern": "^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$",
        "ConstraintDescription": "must be empty or the name of an S3 bucket",
    }
    return parameter, {"Fn::If": ["HasCodeBucket", given, own]}


def _zipped(folder: Path, architecture: str) -> Zip:
    """Zip a built function, without what differs from build to build: order, times and modes."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), EARLIEST)
            entry.create_system = 3  # Unix, whose modes follow
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    return Zip(architecture, path, hashlib.sha256(content).hexdigest(), len(content))


class _TemplateLoader(yaml.SafeLoader):
    """Reads a template; CloudFormation's tags become the long forms of its functions."""


def _intrinsic(loader: _TemplateLoader, suffix: str, node: yaml.Node) -> Mapping[str, Any]:
    """Return `!Suffix value` as `{"Fn::Suffix": value}`.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
    """
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there is no other node
            value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _intrinsic)
