"""Image bytes -> thumbnails. Knows no AWS."""

from thumbnailer.imaging.thumbnails import Made, Thumbnail, make_thumbnails

__all__ = ["Made", "Thumbnail", "make_thumbnails"]
