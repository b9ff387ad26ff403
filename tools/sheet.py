"""A page of pictures side by side, one row for each file, on which some rows are marked."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

STYLE: Final = """
:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif }
article { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem;
  border-top: 1px solid #8884; padding: .5rem; overflow-wrap: anywhere }
img { max-width: 100%; max-height: 384px;
  background: repeating-conic-gradient(#ccc 0 25%, #fff 0 50%) 0 0 / 16px 16px }
article > div { grid-column: 4 }
.marked { background: #f004 }
body:has(#only:checked) article:not(.marked) { display: none }
"""


def write_sheet(sheet: Path, title: str, marked: str, rows: Iterable[str]) -> None:
    """Write index.html in the folder `sheet`; a box hides all rows but those that are `marked`."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{title}</title>",
        f"<style>{STYLE}</style><h1>{title}</h1>",
        f"<label><input type=checkbox id=only> only {marked}</label>",
        *rows,
    ]
    (sheet / "index.html").write_text("\n".join(parts), encoding="utf-8")


def row(sheet: Path, names: Sequence[str | None], words: str, *, marked: bool) -> str:
    """Return a row: up to three pictures, and `words` in the fourth column.

    `names` are those of files in `sheet`. The place of one that is not there stays empty.
    """
    pictures = (
        (
            f'<img loading=lazy src="{quote(name)}" alt="">'
            if name and (sheet / name).exists()
            else "<span></span>"
        )
        for name in names
    )
    text = html.escape(words).replace("\n", "<br>")
    kind = "marked" if marked else "plain"
    return f"<article class={kind}>{''.join(pictures)}<div>{text}</div></article>"
