"""Programs for maintainers: measurements, checks and the build hook of the wheel."""
