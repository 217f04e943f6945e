"""Data sets: one file each, from the layout its owners ship to an ExpressionSet."""
