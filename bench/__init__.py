"""Measurements of the pipeline, each runnable as `python -m bench.<name>`."""
