"""Sort pictures into folders by the apparent expression of their largest face, without any service.

    python examples/embed_the_recognizer.py photos sorted

A ``Recognizer`` is loaded once and then answers picture after picture, in this very process.
"""

import argparse
import shutil
from pathlib import Path

from manet import Recognizer
from manet.errors import ImageError
from manet.vision.images import PictureLimits, read_picture

SURE = 0.6
"""A probability below this is a guess; such pictures are better looked at by a person."""


def place_of(picture: Path, recognizer: Recognizer) -> str:
    """Return the name of the folder that a picture belongs in."""
    try:
        # Upright RGB pixels, (height, width, 3), whatever the file is: the limits keep a hostile one out of memory.
        image = read_picture(picture.read_bytes(), limits=PictureLimits())
    except ImageError:
        return "not a picture"
    faces = recognizer.recognize(image, max_faces=1)
    if not faces:
        return "no face"
    return faces[0].expression if faces[0].confidence >= SURE else "unsure"


def main() -> None:
    """Copy each picture to where it belongs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("sorted", type=Path)
    asked = parser.parse_args()
    recognizer = Recognizer.from_weights("ferplus")
    for picture in sorted(path for path in asked.pictures.iterdir() if path.is_file()):
        place = place_of(picture, recognizer)
        (asked.sorted / place).mkdir(parents=True, exist_ok=True)
        shutil.copy2(picture, asked.sorted / place)
        print(f"{picture.name}: {place}")


if __name__ == "__main__":
    main()
