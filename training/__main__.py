"""``manet-train`` as a program; in an installation without the extra ``train`` it prints one line of error."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without its dependencies, name the extra that has them, with exit status 2."""
    if any(find_spec(name) is None for name in ("torch", "torchvision", "scipy", "matplotlib", "tensorboard")):
        sys.stderr.write(
            "training needs PyTorch and other packages that are not installed: pip install 'manet[train]'\n"
        )
        raise SystemExit(2)
    from training.cli import main as run  # noqa: PLC0415 - it loads PyTorch

    run()


if __name__ == "__main__":
    main()
