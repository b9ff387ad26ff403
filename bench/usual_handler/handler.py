# ruff: noqa: INP001 - a source root, as lambda/ is
"""A typical thumbnail function, with which bench.cold_start compares this pipeline.

It follows AWS's tutorial, which also packages boto3
(https://docs.aws.amazon.com/lambda/latest/dg/with-s3-tutorial.html). Logs and metrics follow the
documentation of Powertools.
"""

import io
import os
from urllib.parse import unquote_plus

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from PIL import Image

logger = Logger(service="thumbnail")
metrics = Metrics(namespace="Thumbnails", service="thumbnail")
s3 = boto3.client("s3")

OUTPUT_BUCKET = os.environ["OUTPUT_BUCKET"]
SIZES = [int(size) for size in os.environ["THUMB_SIZES"].split(",")]
QUALITY = int(os.environ["WEBP_QUALITY"])


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: dict, context: object) -> None:  # noqa: ARG001
    """Make a thumbnail of every size for each uploaded image."""
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        stem = key.removeprefix("uploads/").rpartition(".")[0]
        for size in SIZES:
            image = Image.open(io.BytesIO(body))
            image.thumbnail((size, size))
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=QUALITY)
            s3.put_object(
                Bucket=OUTPUT_BUCKET,
                Key=f"{stem}_{size}w.webp",
                Body=buffer.getvalue(),
                ContentType="image/webp",
            )
        logger.info("Made thumbnails", extra={"bucket": bucket, "key": key})
        metrics.add_metric(name="Thumbnails", unit=MetricUnit.Count, value=len(SIZES))
