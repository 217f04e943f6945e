"""Bench: what was measured and how; its programs run from the root of a checkout, its results lie in ``results/``."""
