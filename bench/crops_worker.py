"""Crops of other programs: libvips' attention and smartcrop. bench.crops runs it.

    python crops_worker.py < crops.json

Each crop is ["photo.png", "libvips.png", "smartcrop.png", [width, height]]: the last two files are
written. The program runs in the environment .tools/bench, which has both packages.
"""

import json
import os
import sys

import pyvips
import smartcrop
from PIL import Image, ImageOps


def main() -> None:
    """Make every crop that is asked for."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    for path, by_vips, by_smartcrop, (width, height) in json.load(sys.stdin):
        found = pyvips.Image.thumbnail(
            path, width, height=height, crop="attention", export_profile="srgb"
        )
        found.pngsave(by_vips)
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        box = smartcrop.SmartCrop().crop(picture, width, height)["top_crop"]
        left, upper = box["x"], box["y"]
        cut = picture.crop((left, upper, left + box["width"], upper + box["height"]))
        cut.resize((width, height), Image.Resampling.LANCZOS).save(by_smartcrop)


if __name__ == "__main__":
    main()
