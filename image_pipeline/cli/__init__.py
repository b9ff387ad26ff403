"""The `image-pipeline` command."""

import sys


def main() -> None:
    """Run the command line, and exit with its exit code.

    Ctrl-C exits with 130 and no traceback, while modules are still being imported as well: so
    nothing beside `sys` is imported outside the block.
    """
    try:
        from image_pipeline.cli.app import command_line, run_app  # noqa: PLC0415 - see above

        run_app(command_line())
    except KeyboardInterrupt:
        sys.exit(130)
