"""The `aws` command as far as the runbook uses it, by botocore's own models of the services.

It refuses what the AWS CLI would refuse: an unknown service, operation or option, a missing or
wrong value, and a --query that is no JMESPath.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import boto3
import botocore.session
import jmespath
from botocore import xform_name
from botocore.model import OperationModel, Shape
from botocore.validate import validate_parameters

GLOBAL_OPTIONS = {"--region", "--output", "--query", "--profile"}
"""Options of every operation: https://docs.aws.amazon.com/cli/latest/reference/index.html#options"""


class Refused(Exception):
    """A command line that the AWS CLI does not accept."""


def run(words: Sequence[str], *, dry: bool = False) -> Any:
    """Run `aws SERVICE OPERATION --option value…`; what --query selects of the answer.

    The client is that of the environment. With `dry` the command is checked and not sent. Raises
    Refused if the AWS CLI would, botocore's ParamValidationError for a wrong value and ClientError
    if the service refuses.
    """
    aws, service, operation, *rest = words
    assert aws == "aws"
    if service == "s3":
        return _remove(operation, rest, dry=dry)
    model = _operation(service, operation)
    given = _options(rest)
    query = jmespath.compile(given.pop("--query", ["@"])[0])
    for name in GLOBAL_OPTIONS:
        given.pop(name, None)
    parameters = _parameters(model, given)
    if model.input_shape:
        validate_parameters(parameters, model.input_shape)
    if dry:
        return None
    client: Any = boto3.Session().client(_name(service))  # type: ignore[call-overload]  # any
    answer = getattr(client, operation.replace("-", "_"))(**parameters)
    return query.search(json.loads(json.dumps(answer, default=str)))


def _operation(service: str, operation: str) -> OperationModel:
    """The model of an operation by the names of the CLI."""
    session = botocore.session.get_session()
    name = _name(service)
    if name not in session.get_available_services():
        raise Refused(f"there is no service {service}")
    model = session.get_service_model(name)
    for each in model.operation_names:
        if xform_name(each, "-") == operation:
            return model.operation_model(each)
    raise Refused(f"{service} has no operation {operation}")


def _name(service: str) -> str:
    """The name of a service for botocore. The CLI's `s3` is made of several requests of `s3api`."""
    return {"s3api": "s3"}.get(service, service)


def _options(words: Sequence[str]) -> dict[str, list[str]]:
    """The values of each option."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            found[word] = []
        elif not found:
            raise Refused(f"unexpected: {word}")
        else:
            found[list(found)[-1]].append(word)
    return found


def _parameters(model: OperationModel, given: dict[str, list[str]]) -> dict[str, Any]:
    """The parameters of a request that the options mean."""
    members = model.input_shape.members if model.input_shape else {}
    known = {f"--{xform_name(name, '-')}": (name, shape) for name, shape in members.items()}
    if unknown := given.keys() - known.keys():
        raise Refused(f"{model.name} has no option {', '.join(sorted(unknown))}")
    return {known[each][0]: _value(known[each][1], values) for each, values in given.items()}


def _value(shape: Shape, values: list[str]) -> Any:
    """The value of an option, by the type of the parameter."""
    first = values[0] if values else ""
    for each in values if (of := getattr(shape, "member", shape)).type_name == "string" else ():
        if of.enum and each not in of.enum:  # type: ignore[attr-defined]  # strings have it
            raise Refused(f"{each} is none of {of.enum}")  # type: ignore[attr-defined]
    match shape.type_name:
        case "structure" | "map":
            return json.loads(first)
        case "list":
            return json.loads(first) if first.startswith("[") else values
        case "boolean":
            return True
        case "integer" | "long":
            return int(first)
        case "float" | "double":
            return float(first)
    if len(values) != 1:
        raise Refused(f"{shape.name} takes one value, not {values}")
    return first


def _remove(operation: str, words: Sequence[str], *, dry: bool) -> None:
    """`aws s3 rm --recursive s3://BUCKET/PREFIX`, the only high-level command of the runbook."""
    if operation != "rm" or words[:1] != ["--recursive"] or len(words) != 2:
        raise Refused(f"aws s3 {operation} {' '.join(words)}")
    bucket, _, prefix = words[1].removeprefix("s3://").partition("/")
    if not dry:
        boto3.Session().resource("s3").Bucket(bucket).objects.filter(Prefix=prefix).delete()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(["aws", *sys.argv[1:]])) + "\n")
