"""Large images at once: what forty clients that send the largest JPEG make of a container of 2 GiB.

    python -m bench.studies.large_images --out bench/results/large_images.json

Needs an engine (see ``testing.compose``).
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from testing.compose import missing, project
from testing.large_images import CLIENTS, HEIGHT, IMAGES_EACH, WIDTH, attacked, largest_image
from training.provenance import commit, machine


def main() -> None:
    """Attack the image that was built, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    with project() as made:
        made("up", "--build", "--wait")
        found = attacked(made, largest_image())
    facts = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    sent = {"clients": CLIENTS, "images_each": IMAGES_EACH, "pixels": WIDTH * HEIGHT}
    asked.out.write_text(json.dumps({**facts, **sent, **found}, indent=2) + "\n")
    sys.exit(found["killed"])


if __name__ == "__main__":
    main()
