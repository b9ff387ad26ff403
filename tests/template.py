"""The stack's template as CloudFormation sees it: transformed by SAM, with parameters applied.

`python tests/template.py DIR` writes two of its forms there, for tools that read templates.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

PATH = Path(__file__).parent.parent / "iac" / "template.yaml"
REQUIRED = {"InputBucketName": "my-input-bucket", "OutputBucketName": "my-output-bucket"}
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/my-image-pipeline/1",
    "AWS::StackName": "my-image-pipeline",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()


@cache
def source() -> dict[str, Any]:
    """The template as it is written."""
    parsed: dict[str, Any] = yaml_parse(PATH.read_text())
    return parsed


def parameters(**given: object) -> dict[str, Any]:
    """Every parameter's value: its default, or the one given."""
    defaults = {
        name: str(about["Default"])
        for name, about in source()["Parameters"].items()
        if "Default" in about
    }
    return defaults | REQUIRED | {name: str(value) for name, value in given.items()}


class Deployed:
    """The resources and outputs that a deploy with `given` parameters would make.

    Intrinsic functions are worked out; a reference to a resource is its logical id, an attribute
    `Id.Attribute`.
    """

    def __init__(self, **given: object) -> None:
        self.values = parameters(**given)
        template = yaml_parse(PATH.read_text())
        template["Resources"]["ThumbnailFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"
        for machine in ("ReplayStateMachine", "BackfillStateMachine"):
            template["Resources"][machine]["Properties"]["DefinitionUri"] = "s3://bucket/key"
        session = boto3.session.Session(region_name="us-east-1")
        translated: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(
            template, dict(self.values)
        )
        self._template = translated
        self._ids = set(translated["Resources"])
        self.resources: dict[str, Any] = {
            name: self._resolve({key: value for key, value in each.items() if key != "Condition"})
            for name, each in translated["Resources"].items()
            if self._holds(each.get("Condition"))
        }
        self.outputs: dict[str, Any] = {
            name: self._resolve(each["Value"])
            for name, each in translated["Outputs"].items()
            if self._holds(each.get("Condition"))
        }

    def properties(self, logical_id: str) -> dict[str, Any]:
        """The properties of one resource."""
        found: dict[str, Any] = self.resources[logical_id]["Properties"]
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of all resources of a type, by logical id."""
        return {
            name: each.get("Properties", {})
            for name, each in self.resources.items()
            if each["Type"] == kind
        }

    def broken_rules(self) -> list[str]:
        """What the template's Rules say against these parameters, before anything is made."""
        return [
            assertion["AssertDescription"]
            for rule in self._template["Rules"].values()
            for assertion in rule["Assertions"]
            if not self._resolve(assertion["Assert"])
        ]

    def _holds(self, condition: str | None) -> bool:
        return condition is None or self._resolve(self._template["Conditions"][condition])

    def _resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [each for each in map(self._resolve, node) if each is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref":
                return self._reference(argument)
            if function == "Condition" and isinstance(argument, str):
                return self._holds(argument)
            if function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self._resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._ids:
            return name
        value = (PSEUDO | self.values)[name]
        is_list = source()["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList"
        return value.split(",") if is_list else value

    def _call(self, function: str, argument: Any) -> Any:  # noqa: PLR0911 - one a function
        match function:
            case "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            case "Fn::GetAtt":
                return ".".join(argument if isinstance(argument, list) else [argument])
            case "Fn::Sub":
                text, own = argument if isinstance(argument, list) else (argument, {})
                own = {name: self._resolve(value) for name, value in own.items()}
                return re.sub(
                    r"\$\{([^}!]+)\}",
                    lambda match: str(own.get(match[1], self._dotted(match[1]))),
                    text,
                )
            case "Fn::Equals":
                one, other = map(self._resolve, argument)
                return str(one) == str(other)
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::Or":
                return any(self._resolve(each) for each in argument)
            case "Fn::And":
                return all(self._resolve(each) for each in argument)
        raise NotImplementedError(function)

    def _dotted(self, name: str) -> Any:
        return (
            name
            if name.split(".", maxsplit=1)[0] in self._ids
            else (PSEUDO | self.values).get(name)
        )


def accepts(parameter: str, value: str) -> bool:
    """Whether CloudFormation takes `value` for a parameter, by its type and constraints."""
    about = source()["Parameters"][parameter]
    if "AllowedValues" in about and value not in map(str, about["AllowedValues"]):
        return False
    if about["Type"] == "Number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", value):
            return False
        low, high = about.get("MinValue", float("-inf")), about.get("MaxValue", float("inf"))
        return bool(low <= float(value) <= high)
    if not about.get("MinLength", 0) <= len(value) <= about.get("MaxLength", 4096):
        return False
    # CloudFormation matches the whole value, and each one of a list.
    members = value.split(",") if about["Type"] == "CommaDelimitedList" else [value]
    pattern = re.compile(about.get("AllowedPattern", ".*"), re.DOTALL | re.ASCII)
    return all(map(pattern.fullmatch, members))


VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "everything": {
        "ExistingInputBucket": "true",
        "CreateKmsKey": "true",
        "DeleteBucketContents": "true",
        "AlarmEmail": "a@b.example",
        "GradualDeployment": "true",
        "DeleteWithOriginal": "true",
        "XRayTracing": "true",
    },
}


def main() -> None:
    """Write each variant's resources as a template without parameters."""
    for name, given in VARIANTS.items():
        resources = {"Resources": Deployed(**given).resources}
        (Path(sys.argv[1]) / f"{name}.json").write_text(json.dumps(resources))


if __name__ == "__main__":
    main()
