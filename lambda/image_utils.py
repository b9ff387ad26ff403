"""Public name of the image code: `from image_utils import make_thumbnails`."""

from thumbnailer.imaging import make_thumbnails

__all__ = ["make_thumbnails"]
