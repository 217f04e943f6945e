"""GPU: the steps of ``bench.gpu_check``, each a generator of rows; ``python -m bench.gpu STEP`` runs one alone."""
