"""GIF, still and animated."""

import io
from typing import Any, Final, override

from PIL import GifImagePlugin, Image, ImageFile

from thumbnailer.imaging.formats.format import UNCOVERED, Format
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.spec import PixelSize

CLEAR: Final = (0, 0, 0, 0)
"""What no frame covers, and what a cleared frame leaves behind, as in browsers. The background
colour of the header is not painted."""

CLEARED: Final = 2
UNDONE: Final = (3, 4)
"""Disposals of a frame (GIF89a, 23). Some encoders write 4 for 3."""

UNCOVERED_BYTES: Final = 5
"""For each pixel of a screen that the first frame does not cover: its colour numbers, as they are
and cut out, and the same in RGBA."""


class GifFile(GifImagePlugin.GifImageFile):
    """Pillow's reader, with the canvas of browsers.

    Pillow paints the background colour or the first entry of the palette, and a frame that does
    not say how it is disposed of is treated like the one before it.
    """

    _below: Any = None
    """What an undone frame is replaced with: a picture of Pillow's core."""

    @override
    def _seek(self, frame: int, update_image: bool = True) -> None:
        """Read a frame's header, the frame before it disposed of."""
        if frame and update_image:
            if self.tile:
                self.load()
            self._dispose_of_frame()
        self.disposal_method = 0
        super()._seek(frame, update_image)
        self.dispose = None  # done here
        if not update_image:
            return
        self._below = None
        if frame and self.disposal_method in UNDONE and self.dispose_extent:
            self._below = self._crop(self.im, self.dispose_extent)
        if frame == 0 and not self._frame_palette:
            self.palette = None  # or Pillow would take the file's for that of a grey frame
        if frame == 0 and self._is_uncovered():
            self._mode = "RGBA"
            self.info[UNCOVERED] = True

    def _box(self) -> tuple[int, int, int, int]:
        """Return where the frame is: left, upper, right and lower edge in pixels."""
        return self.dispose_extent or (0, 0, 0, 0)

    def _is_uncovered(self) -> bool:
        """Whether the first frame leaves a part empty. Pillow fills it if there is transparency."""
        covers = self.dispose_extent == (0, 0, *self.size)
        return not covers and self._frame_transparency is None

    def _dispose_of_frame(self) -> None:
        """Make the canvas RGB or RGBA, and clear or undo the frame that was shown."""
        cleared = self.disposal_method == CLEARED
        cleared = cleared or (self.disposal_method in UNDONE and self._below is None)
        alpha = cleared or self.mode == "RGBA" or "transparency" in self.info
        if alpha and self.mode != "RGBA":
            self.im = Image.Image.convert(self, "RGBA").im
        elif not alpha and self.mode != "RGB":
            self.im = Image.Image.convert(self, "RGB").im
        self._mode = self.im.mode
        self.palette = None
        self.info.pop("transparency", None)
        if self.dispose_extent:
            if cleared:
                self.im.paste(CLEAR, self.dispose_extent)
            elif self._below is not None:
                below = self._below
                if below.mode != self.im.mode:
                    below = below.convert(self.im.mode, Image.Dither.NONE)
                self.im.paste(below, self.dispose_extent)

    def load_end(self) -> None:
        """Draw the frame that was loaded."""
        if self.tell() == 0:
            super().load_end()
            if self._is_uncovered():
                self._cut_out()
            return
        canvas: Any = self._prev_im
        frame = self._crop(self.im, self._box())
        self.im = canvas
        self._mode = self.im.mode
        if self._frame_transparency is None:
            self.im.paste(frame.convert(self.mode, Image.Dither.NONE), self.dispose_extent)
            return
        if frame.mode == "L":
            frame = frame.convert_transparent("LA", self._frame_transparency)
        else:
            frame.putpalettealpha(self._frame_transparency, 0)
        frame = frame.convert("RGBA", Image.Dither.NONE)
        self.im.paste(frame, self.dispose_extent, frame)

    def _cut_out(self) -> None:
        """Leave what the first frame does not cover transparent."""
        frame = self._crop(self.im, self._box()).convert("RGBA", Image.Dither.NONE)
        self.im = Image.new("RGBA", self.size, CLEAR).im
        self.im.paste(frame, self.dispose_extent)
        self._mode = "RGBA"
        self.palette = None


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith((b"GIF87a", b"GIF89a"))


def open_gif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return GifFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    return float(pixels(image.size) * UNCOVERED_BYTES) if image.mode == "RGBA" else 0.0


FORMAT: Final = Format(
    name="GIF", title="GIF", recognise=recognise, open=open_gif, decoder_bytes=decoder_bytes
)
