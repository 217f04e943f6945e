"""Training of MA-Net: data sets, recipes, optimisation and evaluation."""
