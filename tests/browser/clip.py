"""A clip that Chromium takes in place of a camera."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_clip(path: Path, frames: list[Image.Image]) -> None:
    """Write frames of one size as YUV4MPEG2, 20 a second; both sides are even."""
    width, height = frames[0].size
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F20:1 Ip A1:1 C420jpeg\n" % (width, height))
        for frame in frames:
            luma, *chroma = frame.convert("YCbCr").split()
            file.write(b"FRAME\n" + np.asarray(luma).tobytes())
            for plane in chroma:
                file.write(np.asarray(plane.resize((width // 2, height // 2))).tobytes())
