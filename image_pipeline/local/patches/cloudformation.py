"""CloudFormation: what it accepts and refuses, and what SAM's transform knows."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

from collections.abc import Callable
from typing import Any, Final

from ministack.services import lambda_svc, s3, sns  # type: ignore[import-not-found]
from ministack.services.cloudformation import (  # type: ignore[import-not-found]
    changesets,
    engine,
    handlers,
    provisioners,
)
from samtranslator.translator import transform  # type: ignore[import-untyped]

NO_METRIC: Final = {
    "Namespace": "MetricMath",
    "MetricName": "Unknown",
    "Statistic": "Sum",
    "Period": 300,
}
"""Properties of an alarm on a metric that does not exist."""


def accept_alarms_of_metric_math() -> None:
    """CloudFormation creates alarms on an expression over several metrics.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cloudwatch-alarm.html
    ministack refuses them. This patch creates them on a metric that does not exist, so they are
    never in alarm.
    """
    handlers = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]

    def simplified(value: Any) -> Any:
        if not isinstance(value, dict) or "Metrics" not in value:
            return value
        return {name: each for name, each in value.items() if name != "Metrics"} | NO_METRIC

    def accepting(make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: make(*map(simplified, given))

    for action in ("create", "update"):
        handlers[action] = accepting(handlers[action])


def _encryption_xml(properties: dict[str, Any]) -> bytes:
    """The body of PutBucketEncryption for the property BucketEncryption."""
    rules = []
    for rule in properties.get("ServerSideEncryptionConfiguration", []):
        default = rule.get("ServerSideEncryptionByDefault", {})
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in default.items())
        enabled = str(rule.get("BucketKeyEnabled", False)).lower()
        rules.append(
            f"<Rule><ApplyServerSideEncryptionByDefault>{fields}"
            "</ApplyServerSideEncryptionByDefault>"
            f"<BucketKeyEnabled>{enabled}</BucketKeyEnabled></Rule>"
        )
    body = (
        f"<ServerSideEncryptionConfiguration>{''.join(rules)}</ServerSideEncryptionConfiguration>"
    )
    return body.encode()


def encrypt_buckets() -> None:
    """The objects of a bucket are encrypted as the property BucketEncryption says.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-bucketencryption.html
    ministack ignores the property.
    """
    provisioners._S3_BUCKET_CONFIGURATIONS = (
        *provisioners._S3_BUCKET_CONFIGURATIONS,
        (
            "BucketEncryption",
            _encryption_xml,
            s3._put_bucket_encryption,
            s3._delete_bucket_encryption,
        ),
    )


def encrypt_topics() -> None:
    """A topic reports the key of the property KmsMasterKeyId.

    https://docs.aws.amazon.com/sns/latest/api/API_GetTopicAttributes.html. ministack ignores the
    property.
    """
    handlers = provisioners._RESOURCE_HANDLERS["AWS::SNS::Topic"]

    def with_key(make: Callable[..., Any], position: int) -> Callable[..., Any]:
        def made(*given: Any, **more: Any) -> Any:
            topic, attributes = make(*given, **more)
            stored = sns._topics[topic]["attributes"]
            stored.pop("KmsMasterKeyId", None)
            if key := given[position].get("KmsMasterKeyId"):
                stored["KmsMasterKeyId"] = key
            return topic, attributes

        return made

    handlers["create"] = with_key(handlers["create"], 1)
    handlers["update"] = with_key(handlers["update"], 2)


def refuse_to_delete_full_buckets() -> None:
    """CloudFormation fails to delete a bucket that contains objects or object versions.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html
    ministack deletes it with its contents.
    """
    delete = provisioners._s3_delete
    handlers = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]

    def delete_bucket(name: str, properties: Any) -> None:
        bucket = s3._buckets.get(name)
        if bucket and (bucket["objects"] or s3._bucket_has_versions(name)):
            raise ValueError(
                "The bucket you tried to delete is not empty (Service: S3, Status Code: 409)"
            )
        delete(name, properties)

    handlers["delete"] = delete_bucket


def give_sam_the_parameters() -> None:
    """SAM's transform gets the parameters of the operation, and resolves references to them.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-macros-author.html
    (templateParameterValues). ministack gives it none, so that it takes the defaults: of
    EventInvokeConfig and DeploymentPreference, for example.
    """
    apply_transforms, translate = engine._apply_transforms, transform.transform
    given: dict[str, str] = {}

    def translated(template: Any, _none: Any, *others: Any) -> Any:
        return translate(template, dict(given), *others)

    def applied(template: Any, provided: Any = None, previous: Any = None) -> Any:
        given.clear()
        for name, value in engine._transform_parameters(template, provided, previous).items():
            given[name] = ",".join(value) if isinstance(value, list) else str(value)
        return apply_transforms(template, provided, previous)

    transform.transform = translated
    for module in (engine, handlers, changesets):
        module._apply_transforms = applied


def reserve_concurrency() -> None:
    """CloudFormation sets a function's reserved concurrency, and removes it with the property.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
    ministack ignores the property.
    """
    types = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]

    def reserving(make: Callable[..., Any], properties: int) -> Callable[..., Any]:
        def made(*given: Any, **options: Any) -> Any:
            result = make(*given, **options)
            value = given[properties].get("ReservedConcurrentExecutions")
            lambda_svc._functions[result[0]]["concurrency"] = None if value is None else int(value)
            return result

        return made

    types["create"] = reserving(types["create"], properties=1)
    types["update"] = reserving(types["update"], properties=2)
