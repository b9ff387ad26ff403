"""Metadata hook of the wheel: README.md for the package index, with links that work there."""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK: Final = re.compile(r"(!?)(\[[^]]*\]\()(?!https?:|#)([^)\s]+)")
"""A link, or with `!` an image, of Markdown to a file of the repository."""


class AbsoluteLinks(MetadataHookInterface):
    """Sets the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Point the links of README.md to the repository of the project's documentation."""
        repository = metadata["urls"]["Documentation"].partition("/blob/")[0]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(text, repository),
        }


def with_absolute_links(text: str, repository: str) -> str:
    """Return Markdown whose links and images are in the main branch of `repository` on GitHub."""

    def absolute(link: re.Match[str]) -> str:
        image, label, target = link.groups()
        return f"{image}{label}{repository}/{'raw' if image else 'blob'}/main/{target}"

    return LINK.sub(absolute, text)
