"""Ask a running service what the faces in an image look like.

    python examples/call_the_service.py face.jpg --url http://127.0.0.1:8000

Start the service with ``manet-serve``. This needs httpx: ``pip install httpx``.
"""

import argparse
from pathlib import Path
from typing import Any

import httpx


def faces_of(image: Path, client: httpx.Client) -> list[dict[str, Any]]:
    """Return the faces that the service finds in an image, the largest first.

    Raises:
        RuntimeError: with the service's own words, if it does not answer with faces.
    """
    answer = client.post("/predict", files={"image": image.read_bytes()})
    if answer.is_success:
        faces: list[dict[str, Any]] = answer.json()["faces"]
        return faces
    # Every error is a problem+json with a stable "type"; 429 and 503 also say when to try again (Retry-After).
    problem = answer.json()
    raise RuntimeError(f"{problem['title']}: {problem['detail']}")


def main() -> None:
    """Print one line for each face."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    # One client for many images keeps its connection open.
    with httpx.Client(base_url=arguments.url, timeout=30) as client:
        for face in faces_of(arguments.image, client):
            box = face["box"]
            print(f"{face['expression']} {face['confidence']:.0%} at {box['x']:.0f}, {box['y']:.0f}")


if __name__ == "__main__":
    main()
