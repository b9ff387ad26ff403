"""`image-pipeline down`."""

from image_pipeline.cli.output import out
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.local.stack import LocalStack


def down() -> None:
    """Stop the local stack and delete everything in it, its buckets included.

    **Example**

    `image-pipeline down`
    """
    local = LocalStack()
    ConsoleProcess(local.directory).stop()
    stopped = local.stop()
    out.print("Stopped the local stack." if stopped else "No local stack is running.")
