"""The runbook (docs/operations.md) as data: its sections, and the commands that it shows."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

PATH = Path(__file__).parent.parent / "docs" / "operations.md"
TEXT = PATH.read_text()

PLACEHOLDERS: Final = re.compile(
    r"\b(NAME|REGION|[A-Z_]+_ARN|QUEUE_URL|(?:IN|OUT)PUT-BUCKET|KEY)\b"
)
"""Words of commands that the reader replaces."""

_BLOCK = re.compile(r"^( *)```bash\n(.*?)\n\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:image-pipeline|aws|make) [^`]+)`")


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


def sections(text: str = TEXT, level: int = 3) -> dict[str, str]:
    """The text below each heading of a level, by its anchor."""
    marks = "#" * level
    parts = re.split(rf"^{marks} (.+)$", text, flags=re.MULTILINE)
    bodies = (re.split(rf"^#{{1,{level}}} ", body, flags=re.MULTILINE)[0] for body in parts[2::2])
    return dict(zip(map(anchor, parts[1::2]), bodies, strict=True))


def commands(text: str = TEXT) -> list[str]:
    """Every command in blocks and in sentences, once each; a pipe of several lines is one."""
    found: dict[str, None] = {}
    for match in _BLOCK.finditer(text):
        for line in re.sub(r"\|\n\s*", "| ", match[2]).splitlines():
            if line.strip():
                found[re.sub(r"\s+# .*$", "", line.strip())] = None
    found |= dict.fromkeys(
        each
        for each in _INLINE.findall(_BLOCK.sub("", text))
        if len(each.split()) > 2  # else the name of a command
    )
    return list(found)


def exceptions(text: str = TEXT) -> list[str]:
    """The commands that the page says the local AWS cannot run."""
    table = sections(text, 2)["commands-that-need-aws"]
    return re.findall(r"^\| `([^`]+)` \| \S.+ \|$", table, re.MULTILINE)


def words(command: str) -> list[str]:
    """The words of a command after the expansions of the shell."""
    done = subprocess.run(  # noqa: S603 - a line of the runbook, with printf instead of its command
        ["/bin/bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, text=True
    )
    return done.stdout.split("\0")[:-1]


def is_shell(command: str) -> bool:
    """Whether a command is more than a program and its words."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return any(set(token) <= set("|;&<>") for token in lexer if token)
