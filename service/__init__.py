"""Service: MA-Net behind HTTP, with dynamic batching. It imports ``manet`` and never ``training``."""
