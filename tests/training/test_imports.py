"""What the command line loads before it knows what is asked of it."""

import subprocess
import sys

# Seconds each: torchvision brings PyTorch's compiler, and the others draw and log what most commands do not.
HEAVY = ("torchvision", "torch._dynamo", "matplotlib", "scipy.optimize", "tensorboard")


def test_a_command_does_not_load_what_only_training_or_drawing_needs() -> None:
    program = f"import sys, training.cli; print([name for name in {HEAVY} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
