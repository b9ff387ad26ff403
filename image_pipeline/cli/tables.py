"""Tables for people."""

from typing import Any

from rich.table import Table as RichTable


class Table(RichTable):
    """A table that breaks what does not fit into more lines. Rich would cut it, numbers too."""

    def add_column(self, *given: Any, **more: Any) -> None:
        """Add a column."""
        super().add_column(*given, **{"overflow": "fold", **more})
