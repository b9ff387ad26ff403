"""Tables in a temporary file, for what grows with the number of files of a run."""

import sqlite3
from typing import Self


class TemporaryDatabase:
    """A database in a file that SQLite deletes when it is closed, or when this process ends.

    It is closed with the block that it opens. https://sqlite.org/inmemorydb.html#temp_db
    """

    def __init__(self, tables: str) -> None:
        self.sql = sqlite3.connect("", isolation_level=None)
        self.sql.execute("PRAGMA journal_mode = OFF")  # nothing is ever rolled back
        self.sql.executescript(tables)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the file."""
        self.sql.close()


def blob(name: str) -> bytes:
    """Encode a path or key, surrogates included."""
    return name.encode(errors="surrogatepass")


def text(stored: bytes) -> str:
    """Decode what `blob` encoded."""
    return stored.decode(errors="surrogatepass")
