"""Names of the buckets that the unit tests create in their local AWS."""

INPUT = "test-input"
OUTPUT = "test-output"
