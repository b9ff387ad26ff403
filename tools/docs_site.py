"""Adapts the pages of docs/ to the documentation site: a hook of MkDocs, named in mkdocs.yml.

The pages are written for GitHub, where people read them too. `make docs` runs this module in
MkDocs's own environment, so it imports only the standard library.
"""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).parent.parent

LINK: Final = re.compile(r"\]\((\.\./[^)\s]*)\)")
"""A link or picture of Markdown whose target begins with `../`."""

FENCE: Final = re.compile(r" *(```+|~~~+)")
"""The line that begins or ends a block of code."""

ITEM: Final = re.compile(r" *(?:[-*+]|\d+[.)]) +")
"""What the first line of a list item begins with."""

PICTURE: Final = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img src="(?P<light>[^"]+)" alt="(?P<alt>[^"]+)"[^>]*>\s*</picture>'
)
"""A picture that GitHub shows in the colour scheme of the reader."""


def files_url() -> str:
    """Return where the repository's files are on GitHub: the parent of the documentation's address.

    pyproject.toml has that address. The alarms link to it too.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return posixpath.dirname(str(project["urls"]["Documentation"]))


def on_config(config: Any) -> Any:
    """Add the link to the repository and, for a folder in the navigation, its pages in order."""
    config["repo_url"], _, _ = files_url().partition("/blob/")
    config["repo_name"] = urlsplit(config["repo_url"]).path.strip("/")
    config["nav"] = [
        {title: pages(Path(config["docs_dir"]), entry)}
        for part in config["nav"]
        for title, entry in part.items()
    ]
    return config


def pages(docs: Path, entry: Any) -> Any:
    """Return the pages of a folder of `docs` for an entry such as `adr/`, else the entry itself."""
    if isinstance(entry, str) and entry.endswith("/"):
        return [str(path.relative_to(docs)) for path in sorted((docs / entry).glob("*.md"))]
    return entry


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Adapt a page. The first page has no side columns, so that its table is wide.

    The search shows decisions last: readers look for what the pipeline does, not why.
    """
    if page.is_homepage:
        page.meta["hide"] = ["navigation", "toc"]
    if page.file.src_uri.startswith("adr/"):
        page.meta["search"] = {"boost": 0.3}
    return adapt(markdown, page.file.src_uri)


def on_post_page(output: str, **_: Any) -> str:
    """Name the search, which Material makes a dialog without a name (WCAG 4.1.2)."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def adapt(markdown: str, path: str) -> str:
    """Return the text of a page for the site; `path` is relative to docs/.

    A link to a file outside docs/ leads to GitHub. A picture with two colour schemes follows the
    site's switch, which a `<picture>` cannot.
    """

    def elsewhere(link: re.Match[str]) -> str:
        file, hash_sign, anchor = link[1].partition("#")
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(path), file))
        inside = target.startswith("docs/")
        return link[0] if inside else f"]({files_url()}/{target}{hash_sign}{anchor})"

    markdown = PICTURE.sub(
        r"![\g<alt>](\g<light>#only-light)![\g<alt>](\g<dark>#only-dark)", markdown
    )
    return indented(LINK.sub(elsewhere, markdown))


def indented(markdown: str) -> str:
    """Return a text whose lists Python-Markdown, which MkDocs uses, reads as GitHub does.

    What belongs to an item is indented by four spaces per level, where GitHub is content with the
    column of the item's first word. There is an empty line before an item that follows one of
    several paragraphs (https://python-markdown.github.io/#differences).
    """
    columns: list[int] = []  # where the text of each open item begins
    fence = ""
    has_paragraphs = False
    lines = [""]
    for line in markdown.splitlines():
        column = len(line) - len(line.lstrip())
        item = None if fence else ITEM.match(line)
        while columns and line and column < columns[-1] and not fence:
            columns.pop()
        if item and has_paragraphs and lines[-1]:
            lines.append("")
        added = 4 * len(columns) - columns[-1] if columns and line else 0
        lines.append(" " * added + line)
        if edge := FENCE.match(line):
            fence = "" if edge[1] == fence else fence or edge[1]
        elif item:
            columns.append(item.end())
        has_paragraphs = not item and (has_paragraphs or not line) and bool(columns)
    return "\n".join(lines[1:])
