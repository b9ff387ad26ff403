"""Metadata hook of the wheel: README.md for the package index, with links that work there."""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK: Final = re.compile(r"(!\[[^]]*)?\]\((?!\w+:|#)")
"""What is before a relative address in Markdown, with the beginning of an image."""


class AbsoluteLinks(MetadataHookInterface):
    """Sets the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Point the links of README.md to the repository of the project's documentation."""
        repository = metadata["urls"]["Documentation"].partition("/blob/")[0]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_addresses(text, f"{repository}/blob/main", f"{repository}/raw/main"),
        }


def with_addresses(text: str, files: str, images: str) -> str:
    """Return Markdown whose relative links begin with `files`, and images with `images`."""
    return LINK.sub(lambda link: f"{link[1] or ''}]({images if link[1] else files}/", text)
