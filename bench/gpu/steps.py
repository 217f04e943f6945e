"""Steps: the table of what the check does."""

from collections.abc import Mapping

from bench.gpu.decoding import decode
from bench.gpu.detection import detect
from bench.gpu.facts import facts
from bench.gpu.network import correct, engines
from bench.gpu.service import served
from bench.gpu.setting import Step
from bench.gpu.training import train

STEPS: Mapping[str, Step] = {
    "facts": Step(facts, 25),
    "correct": Step(correct, 60),
    "engines": Step(engines, 110),
    "detect": Step(detect, 30),
    "served": Step(served, 150),
    "train": Step(train, 80),
    "decode": Step(decode, 20),
}
"""Every step by its name, in the order in which they run: what is worth most comes first."""
