"""The stack's template as CloudFormation sees it: transformed by SAM, with parameters filled in.

`python tests/template.py DIR` writes each of VARIANTS to DIR, for tools that read templates
(`make validate`, `make audit`).
"""

import json
import re
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from image_pipeline.build.package import packaged_template

PATH = Path(__file__).parent.parent / "iac" / "template.yaml"
REQUIRED_PARAMETERS = {"InputBucketName": "my-input-bucket", "OutputBucketName": "my-output-bucket"}
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/my-image-pipeline/1",
    "AWS::StackName": "my-image-pipeline",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()
MAX_VALUE_LENGTH = 4096
"""Characters of a parameter's value, by CloudFormation's quotas:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""


@cache
def source() -> dict[str, Any]:
    """The parsed template, without the SAM transform."""
    parsed: dict[str, Any] = yaml_parse(PATH.read_text())
    return parsed


def parameters(**given: object) -> dict[str, Any]:
    """The value of every parameter, as text: the given one or the default."""
    defaults = {
        name: str(definition["Default"])
        for name, definition in source()["Parameters"].items()
        if "Default" in definition
    }
    return defaults | REQUIRED_PARAMETERS | {name: str(value) for name, value in given.items()}


def translated(values: dict[str, str]) -> dict[str, Any]:
    """The template that SAM's transform makes of the source for these values of all parameters."""
    template = yaml_parse(PATH.read_text())
    template["Resources"]["ThumbnailFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"
    for machine in ("ReplayStateMachine", "BackfillStateMachine"):
        template["Resources"][machine]["Properties"]["DefinitionUri"] = "s3://bucket/key"
    session = boto3.session.Session(region_name="us-east-1")
    result: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(
        template, dict(values)
    )
    return result


class Deployed:
    """The resources and outputs that a deployment with the `given` parameters would create.

    Intrinsic functions are resolved. A reference to a resource is its logical id, and an attribute
    is `LogicalId.Attribute`. Raises NotImplementedError for an unknown intrinsic function.
    """

    def __init__(self, **given: object) -> None:
        self.values = parameters(**given)
        self._template = translated(self.values)
        self._ids = set(self._template["Resources"])
        self.resources: dict[str, Any] = {
            name: self._resolve({key: value for key, value in each.items() if key != "Condition"})
            for name, each in self._template["Resources"].items()
            if self.holds(each.get("Condition"))
        }
        self.outputs: dict[str, Any] = {
            name: self._resolve(each["Value"])
            for name, each in self._template["Outputs"].items()
            if self.holds(each.get("Condition"))
        }

    def properties(self, logical_id: str) -> dict[str, Any]:
        """The properties of one resource. Raises KeyError if the deployment does not create it."""
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
        """The assertions of the template's Rules that these parameters break."""
        return [
            assertion["AssertDescription"]
            for rule in self._template["Rules"].values()
            if self._resolve(rule.get("RuleCondition", True))
            for assertion in rule["Assertions"]
            if not self._resolve(assertion["Assert"])
        ]

    def decided(self) -> dict[str, Any]:
        """The translated template with conditions decided, and these parameters as defaults.

        References stay, so that a linter can check what they refer to. Parameters are only those
        that are referred to.
        """
        sections = {
            name: self._decided(
                {
                    key: {name: part for name, part in each.items() if name != "Condition"}
                    for key, each in self._template[name].items()
                    if self.holds(each.get("Condition"))
                }
            )
            for name in ("Resources", "Outputs")
        }
        used = json.dumps(sections)
        defined = {
            name: {"Type": each["Type"], "Default": self.values[name]}
            for name, each in self._template["Parameters"].items()
            if f'"{name}"' in used or f"${{{name}}}" in used
        }
        return {"Parameters": defined, "Mappings": self._template["Mappings"]} | sections

    def _decided(self, node: Any) -> Any:
        if isinstance(node, list):
            return [each for each in map(self._decided, node) if each is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if node == {"Ref": "AWS::NoValue"}:
            return NO_VALUE
        if "Fn::If" in node:
            condition, yes, no = node["Fn::If"]
            return self._decided(yes if self.holds(condition) else no)
        decided = {key: self._decided(value) for key, value in node.items()}
        return {key: value for key, value in decided.items() if value is not NO_VALUE}

    def holds(self, condition: str | None) -> bool:
        """Whether a condition of the template holds, given by its name; none always does."""
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
                return self.holds(argument)
            if function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self._resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._ids:
            return name
        value = (PSEUDO_PARAMETERS | self.values)[name]
        is_list = source()["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList"
        return value.split(",") if is_list else value

    def _call(self, function: str, argument: Any) -> Any:  # noqa: C901, PLR0911 - one per function
        match function:
            case "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self.holds(condition) else no)
            case "Fn::GetAtt":
                return ".".join(argument if isinstance(argument, list) else [argument])
            case "Fn::Sub":
                text, variables = argument if isinstance(argument, list) else (argument, {})
                variables = {name: self._resolve(value) for name, value in variables.items()}
                return re.sub(
                    r"\$\{([^}!]+)\}",
                    lambda match: str(variables.get(match[1], self._substituted(match[1]))),
                    text,
                )
            case "Fn::Join":
                separator, values = argument
                return separator.join(map(str, self._resolve(values)))
            case "Fn::Equals":
                one, other = map(self._resolve, argument)
                return str(one) == str(other)
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::Or":
                return any(self._resolve(each) for each in argument)
            case "Fn::And":
                return all(self._resolve(each) for each in argument)
            case "Fn::Contains":
                values, value = map(self._resolve, argument)
                return value in values
            case "Fn::Split":
                delimiter, text = map(self._resolve, argument)
                return text.split(delimiter)
            case "Fn::Select":
                index, values = map(self._resolve, argument)
                return values[int(index)]
            case "Fn::FindInMap":
                name, first, second = map(self._resolve, argument)
                return self._template["Mappings"][name][first][second]
        raise NotImplementedError(function)

    def _substituted(self, name: str) -> Any:
        """The value of `name` within Fn::Sub, which may be `LogicalId.Attribute`."""
        return (
            name
            if name.split(".", maxsplit=1)[0] in self._ids
            else (PSEUDO_PARAMETERS | self.values).get(name)
        )


def accepts(parameter: str, value: str) -> bool:
    """Whether CloudFormation accepts `value` for a parameter, by its type and constraints."""
    definition = source()["Parameters"][parameter]
    if "AllowedValues" in definition and value not in map(str, definition["AllowedValues"]):
        return False
    if definition["Type"] == "Number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", value):
            return False
        low = definition.get("MinValue", float("-inf"))
        high = definition.get("MaxValue", float("inf"))
        return bool(low <= float(value) <= high)
    shortest, longest = definition.get("MinLength", 0), definition.get(
        "MaxLength", MAX_VALUE_LENGTH
    )
    if not shortest <= len(value) <= longest:
        return False
    # CloudFormation matches the pattern against the whole value, or against each item of a list.
    members = value.split(",") if definition["Type"] == "CommaDelimitedList" else [value]
    pattern = re.compile(definition.get("AllowedPattern", ".*"), re.DOTALL | re.ASCII)
    return all(map(pattern.fullmatch, members))


KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

SWITCHES = {
    "ExistingInputBucket": "true",
    "CreateKmsKey": "true",
    "DeleteBucketContents": "true",
    "AlarmEmail": "a@b.example",
    "GradualDeployment": "true",
    "DeleteWithOriginal": "true",
    "XRayTracing": "true",
    "BucketVersioning": "true",
    "LambdaReservedConcurrency": "10",
    "FormerKmsKeyArns": KEY.replace("1234abcd", "0000abcd"),
}
"""Parameters on which conditions depend, with a value other than the default."""

DISTRIBUTION = "arn:aws:cloudfront::123456789012:distribution/EDFDVBD6EXAMPLE"
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/1234abcd-12ab"
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfRCfm5sEOZy3mVB5Jw2yMhqvCVjE
mZNeyXtm3eNrXPFGjVAXdNaOhnRXYmvTV6Xn9XPr2Gv2ZpEtwP1lRFmQlQ==
-----END PUBLIC KEY-----
"""

VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "everything": SWITCHES
    | {"LambdaProvisionedConcurrency": "1", "ExistingDistribution": DISTRIBUTION},
    "own-key": {
        "KmsKeyArn": KEY,
        "ExistingInputBucket": "true",
        "LambdaArchitecture": "x86_64",
        "OutputEvents": "true",
        "BackfillConcurrency": "100",
        "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/limit",
    },
    "cdn": {"Cdn": "true", "CdnInvalidate": "true"},
    "private-cdn": {
        "Cdn": "true",
        "CdnDomain": "img.example.com",
        "CdnCertificateArn": CERTIFICATE,
        "CdnPublicKey": PUBLIC_KEY,
        "CdnFormats": "avif,webp",
        "CdnInvalidate": "true",
        "CreateKmsKey": "true",
        "OutputKeyTemplate": "{dir}{stem}-{width}",
        "ThumbnailFormats": "webp,jpeg,avif",
    },
} | {
    f"mixed-{row}": {
        name: value
        for (name, value), rows in zip(SWITCHES.items(), combinations(range(1, 6), 3), strict=True)
        if row in rows
    }
    for row in range(1, 6)
}
"""Parameters that together create every resource and statement of the template at least once.

Each two of SWITCHES are off and on in all four ways: of six rows, the first of which is all off,
each switch is on in another three.
"""


def main() -> None:
    """Write each variant to the folder given as the first argument.

    `resolved/NAME.json` has its resources as `Deployed.resources`, `decided/NAME.json` is its
    template as `Deployed.decided`. `packaged.json` is the template of `image-pipeline package`.
    """
    for name, given in VARIANTS.items():
        deployed = Deployed(**given)
        written = {"resolved": {"Resources": deployed.resources}, "decided": deployed.decided()}
        for folder, content in written.items():
            path = Path(sys.argv[1]) / folder / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
    key = "image-pipeline/function-${LambdaArchitecture}.zip"
    packaged = packaged_template(
        PATH.parent, key, "0" * 64, ["arm64", "x86_64"], "my-releases-{region}"
    )
    (Path(sys.argv[1]) / "packaged.json").write_text(json.dumps(packaged))


if __name__ == "__main__":
    main()
