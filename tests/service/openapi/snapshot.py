"""Snapshot: the contract as it lies in the repository, so that a change of it is seen in review.

``make contract`` rewrites it.
"""

import json
from pathlib import Path

from testing.fakes import make_app

SNAPSHOT = Path(__file__).parents[3] / "docs/openapi.json"


def contract() -> str:
    """Return the contract of the application with its default settings."""
    return json.dumps(make_app().openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(contract(), encoding="utf-8")
