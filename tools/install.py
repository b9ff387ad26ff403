"""Installs the tools of requirements files into `.tools`: `python -m tools.install FILE...`.

It is what an installed wheel does by itself (image_pipeline/build/tools.py).
"""

import sys
from pathlib import Path

from image_pipeline.build.tools import install
from image_pipeline.cli.app import run_app


def main() -> None:
    """Install what the files pin; a failure is one message and exit code 1."""
    for file in sys.argv[1:]:
        install(Path(file).stem)


if __name__ == "__main__":
    run_app(main)
