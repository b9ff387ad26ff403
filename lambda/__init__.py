"""Source root of the function: its modules are imported by name (`lambda` is a keyword)."""
