"""``manet-train`` as a program: what is missing from a lean installation is one red line."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without what training needs, say which extra has it, with exit status 2."""
    if any(find_spec(name) is None for name in ("torch", "torchvision", "scipy", "matplotlib", "tensorboard")):
        sys.stderr.write("training needs PyTorch and more, which is not installed: pip install 'manet[train]'\n")
        raise SystemExit(2)
    from training.cli import main as run  # noqa: PLC0415 - it loads PyTorch

    run()


if __name__ == "__main__":
    main()
