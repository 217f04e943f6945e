"""Export: weights of a run as the files that are served."""
