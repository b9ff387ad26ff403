"""`image-pipeline package`."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from image_pipeline.build import package as packaging
from image_pipeline.build import tools
from image_pipeline.build.function import PLATFORMS, BuildError
from image_pipeline.build.package import REGION, Package, launch_url
from image_pipeline.build.sources import find_sources
from image_pipeline.cli.options import Json, parsed
from image_pipeline.cli.output import err, foreign, out, print_json
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError

BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]|\{region\}){1,61}(?:[a-z0-9]|\{region\})")
"""A bucket's name, in which `{region}` may stand for a region."""

PREFIX: Final = re.compile(r"(?!/)[A-Za-z0-9!_.*'()/-]*")
"""Characters that are safe in a key, in a URL and in Fn::Sub
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

MB: Final = 1_000_000


def package(  # noqa: PLR0913 - options of a command
    *,
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder to write to.")
    ] = Path("package"),
    architecture: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="arm64 or x86_64; repeat the option for both, which is the default.",
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Bucket that you upload the package to. With {region} in the name, each region "
            "has one of its own. Without --bucket, whoever deploys the stack names it.",
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="Prefix of the keys in the bucket.")
    ] = "",
    region: Annotated[
        str, typer.Option(help="Region of the bucket, for the launch link.")
    ] = "us-east-1",
    as_json: Json = False,
) -> None:
    """Package the stack for a deploy without its sources: a template and zips.

    The template is complete in itself. CloudFormation takes it by its URL, in the console too, and
    Lambda reads the function's zip from the bucket that the parameter CodeBucket names. Upload all
    files to a bucket in the region of the stack. With --bucket, the command prints the link that
    opens the form for a new stack.

    The same version of the source gives the same bytes.

    **Examples**

    `image-pipeline package --bucket my-artefacts --prefix image-pipeline/ --region eu-west-1`

    `image-pipeline package --out dist --bucket 'my-releases-{region}' --json`

    `image-pipeline package --architecture x86_64`
    """
    architectures = sorted(set(architecture or PLATFORMS))
    for name in architectures:
        parsed("--architecture", _architecture, name)
    if bucket is not None:
        parsed("--bucket", lambda text: _matching(text, BUCKET, "the name of a bucket"), bucket)
    parsed("--prefix", lambda text: _matching(text, PREFIX, "a prefix of simple keys"), prefix)
    try:
        with err.status("Packaging") as progress:
            made = packaging.package(
                find_sources(),
                out_folder,
                architectures,
                bucket=bucket,
                prefix=prefix,
                uv=tools.find_uv(progress.update),
                report=progress.update,
            )
    except BuildError as error:
        raise CommandError(str(error)) from error
    link = launch_url(bucket, f"{prefix}{made.template.name}", region) if bucket else None
    if as_json:
        print_json(report(made, prefix, link))
    else:
        show(made)
        show_next_steps(out_folder, bucket, prefix, region, link)


def report(made: Package, prefix: str, link: str | None) -> dict[str, Any]:
    """As JSON for scripts; sizes in bytes."""
    return {
        "version": made.version,
        "template": str(made.template),
        "template_key": f"{prefix}{made.template.name}",
        "functions": [
            {
                "architecture": each.architecture,
                "file": str(each.path),
                "key": f"{prefix}{each.path.name}",
                "sha256": each.sha256,
                "bytes": each.bytes,
            }
            for each in made.zips
        ],
        "launch_url": link,
    }


def show(made: Package) -> None:
    """Print the files, and what to compare them with."""
    table = Table("file", "MB", title=f"Version {made.version}")
    table.columns[1].justify = "right"
    table.add_row(foreign(made.template.name), f"{made.template.stat().st_size / MB:.1f}")
    for each in made.zips:
        table.add_row(f"{foreign(each.path.name)}\n[dim]{each.sha256}[/]", f"{each.bytes / MB:.1f}")
    out.print(table)


def show_next_steps(
    folder: Path, bucket: str | None, prefix: str, region: str, link: str | None
) -> None:
    """Print how to upload the files, and how to make a stack of them."""
    name = (bucket or "BUCKET").replace(REGION, region)
    target = shlex.quote(f"s3://{name}/{prefix}")
    out.print("Upload the files to a bucket in the region of the stack:")
    out.print(
        f"  aws s3 cp --recursive {foreign(shlex.quote(str(folder)))} {target}", soft_wrap=True
    )
    if link:
        out.print("Make a stack of them:")
        out.print(f"  {foreign(link)}", soft_wrap=True)


def _architecture(text: str) -> str:
    """Return a name of an architecture. Raises ValueError for any other."""
    if text not in PLATFORMS:
        raise ValueError(f"{text!r} is not {' or '.join(PLATFORMS)}.")
    return text


def _matching(text: str, pattern: re.Pattern[str], what: str) -> str:
    """Return a text of the pattern. Raises ValueError for any other."""
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is not {what}.")
    return text
