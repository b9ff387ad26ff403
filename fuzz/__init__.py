"""Hostile images for `make_thumbnails`: `make fuzz`."""
