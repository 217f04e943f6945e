"""Evaluation: what weights score, their calibration, plots and reports, and the figures that the authors published."""
