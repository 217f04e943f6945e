"""Fine-tune the shipped weights on a folder of your own faces, and answer with the result.

    python examples/fine_tune_on_your_own.py MY_FACES RUN

``MY_FACES`` contains face crops in one folder for each expression, in two parts:

    MY_FACES/train/happiness/*.jpg    MY_FACES/train/neutral/*.jpg    ...
    MY_FACES/valid/happiness/*.jpg    MY_FACES/valid/neutral/*.jpg    ...

The recipe, ``my_faces.toml`` beside this file, says how it is trained, and its comments say what to change. This needs
the training package: ``pip install 'manet[train]'``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from manet import Recognizer
from manet.vision.images import ImageLimits, read_image

RECIPE = Path(__file__).with_name("my_faces.toml")


def fine_tune(faces: Path, run: Path, *changes: str) -> Path:
    """Train, and return the file of the best epoch's weights.

    Args:
        faces: the folder of faces.
        run: a new folder for the run; it can be stopped at any time and resumed with ``manet-train fit --resume``.
        changes: fields of the recipe to override, such as ``epochs=20``.
    """
    command = [sys.executable, "-m", "training", "fit", str(RECIPE), "--data", str(faces), "--out", str(run)]
    # "ferplus" are the weights that ship: their features are kept, the last layers are replaced for your classes.
    subprocess.run([*command, "--init", "ferplus", *(f"--set={change}" for change in changes)], check=True)
    return run / "best.safetensors"


def main() -> None:
    """Train, then predict every validation image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", action="append", default=[], help="a field of the recipe, such as epochs=20")
    arguments = parser.parse_args()
    weights = fine_tune(arguments.faces, arguments.run, *arguments.set)
    # The file's header has the preprocessing; manet-serve takes the file, too: MANET_WEIGHTS=RUN/best.safetensors
    recognizer = Recognizer.from_weights(str(weights))
    for file in sorted((arguments.faces / "valid").glob("*/*")):
        image = read_image(file.read_bytes(), limits=ImageLimits())
        [face] = recognizer.recognize(image, faces="whole")
        print(f"{file.parent.name}/{file.name}: {face.expression} {face.confidence:.0%}")


if __name__ == "__main__":
    main()
