"""CloudFormation: what it accepts and refuses for alarms and buckets."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

from collections.abc import Callable
from typing import Any, Final

from ministack.services import s3  # type: ignore[import-not-found]
from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

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
