"""A web page that shows pictures as a site would: by the URLs that the local stack's CDN serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2
from botocore.exceptions import ClientError

from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.deployed import Stack
from thumbnailer.urls import base_url, thumbnail_url

PARAMETERS: Final = {"Cdn": "true", "ThumbnailFormats": "webp,avif,jpeg", "WriteManifest": "true"}
"""Parameters of a stack whose thumbnails a site can show. The defaults in an account are others."""

NAME: Final = "image-pipeline-site"
"""Of the site's stack, and of the bucket with its page."""

PAGE: Final = "index.html"

GENERATOR: Final = "image-pipeline"
"""In the page's `<meta name="generator">`: by it the command knows the pages that it wrote."""

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture on the page: by its ready-made `html`, or by the URL of its `manifest`.

    A page with manifests has a script, which waits for each and then shows its picture. `url` is
    what the `name` links to, and `note` is behind it.
    """

    name: str
    url: str = ""
    manifest: str = ""
    html: str = ""
    note: str = ""


def page(figures: Sequence[Figure], introduction: str) -> str:
    """Return the page as HTML. All but the figures' own HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("site.html").render(
        figures=figures,
        introduction=introduction,
        live=any(each.manifest for each in figures),
        generator=GENERATOR,
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page that this module made."""
    return f'name="generator" content="{GENERATOR}"' in path.read_text(errors="replace")


def can_show(stack: Stack) -> bool:
    """Whether the stack has what the page needs, as one with PARAMETERS has."""
    return bool(stack.thumbnails_url) and stack.settings.write_manifest


def manifest_url(stack: Stack, key: str) -> str:
    """Return the URL of the manifest of the upload `key`. It is there when all thumbnails are."""
    return thumbnail_url(stack.settings.thumbnails_url, stack.settings.manifest_key(key))


def publish(stack: Stack, figures: Sequence[Figure], introduction: str) -> str:
    """Publish the page in the local AWS, and return its URL.

    Everybody on this machine can open it. Raises CommandError if the local AWS refuses.
    """
    aws = stack.aws
    with aws_errors_explained():
        url = find(aws)
        if url is None:
            aws.cloudformation.create_stack(
                StackName=NAME,
                TemplateBody=(HERE / "site.yaml").read_text(),
                Parameters=[{"ParameterKey": "BucketName", "ParameterValue": NAME}],
            )
            waiter = aws.cloudformation.get_waiter("stack_create_complete")
            waiter.wait(StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            url = str(find(aws))
        aws.s3.put_object(
            Bucket=NAME,
            Key=PAGE,
            Body=page(figures, introduction).encode(),
            ContentType="text/html; charset=utf-8",
            CacheControl="no-cache",
        )
    return url


def find(aws: Aws) -> str | None:
    """Return the URL of the page in a local AWS, or None if there is none."""
    try:
        (stack,) = aws.cloudformation.describe_stacks(StackName=NAME)["Stacks"]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        return None
    (output,) = stack["Outputs"]
    return f"{base_url(output['OutputValue'], aws.endpoint_url)}/"
