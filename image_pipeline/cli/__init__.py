"""The `image-pipeline` command."""

import gc
import sys


def main() -> None:
    """Run the command line, and exit with its exit code.

    Ctrl-C exits with 130 and no traceback, while modules are still being imported as well: so
    nothing but built-in modules is imported outside the block.
    """
    try:
        # Imported modules are no garbage, and looking for some takes a twelfth of the start
        # (measured). StackCommand.invoke ends this.
        gc.disable()
        from image_pipeline.cli.app import (  # noqa: PLC0415 - see above
            command_line,
            run_app,
            start_workers,
        )

        start_workers(sys.argv[1:])
        run_app(command_line())
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.enable()
