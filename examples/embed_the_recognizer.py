"""Sort images into folders by the apparent expression of their largest face, without any service.

    python examples/embed_the_recognizer.py photos sorted

A ``Recognizer`` is loaded once and then answers image after image, in this very process.
"""

import argparse
import shutil
from pathlib import Path

from manet import Recognizer
from manet.errors import ImageError
from manet.vision.images import ImageLimits, read_image

SURE = 0.6
"""A probability below this is a guess; such images are better looked at by a person."""


def place_of(file: Path, recognizer: Recognizer) -> str:
    """Return the name of the folder that an image belongs in."""
    try:
        # Upright RGB pixels, (height, width, 3), whatever the file is: the limits keep a hostile one out of memory.
        image = read_image(file.read_bytes(), limits=ImageLimits())
    except ImageError:
        return "not an image"
    faces = recognizer.recognize(image, max_faces=1)
    if not faces:
        return "no face"
    return faces[0].expression if faces[0].confidence >= SURE else "unsure"


def main() -> None:
    """Copy each image to where it belongs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("sorted", type=Path)
    arguments = parser.parse_args()
    recognizer = Recognizer.from_weights("ferplus")
    for file in sorted(path for path in arguments.images.iterdir() if path.is_file()):
        place = place_of(file, recognizer)
        (arguments.sorted / place).mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, arguments.sorted / place)
        print(f"{file.name}: {place}")


if __name__ == "__main__":
    main()
