"""Entry point of the function: `handler.lambda_handler` in the template."""

import gc
import os

# What is imported here lives as long as the environment. A garbage collection during the import
# finds nothing, and costs a fifteenth of the init (make bench-cold-start).
gc.disable()

version = None
if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    # First, because an unbuilt package lacks the libraries that the next import needs.
    from thumbnailer import build_check

    version = build_check.check(os.path.dirname(__file__))  # noqa: PTH120 - pathlib takes 3 ms

from thumbnailer import deferred_imports

for name in deferred_imports.NAMES:
    deferred_imports.defer(name)

from thumbnailer.handler import Function

lambda_handler = Function(os.environ, version)

gc.freeze()
gc.enable()
