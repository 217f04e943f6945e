"""What the network went by in a face: computed, kept as numbers, laid over the face."""
