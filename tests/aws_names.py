"""Names of what the unit tests make in their local AWS."""

INPUT = "test-input"
OUTPUT = "test-output"
