"""The network MA-Net in PyTorch, and the classifier made of it."""
