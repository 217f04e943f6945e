"""Offline: millions of images, cut into parts, each answered as a file of its own; what is done is not done again.

``plan`` cuts the images into parts, ``part`` answers one, and ``pipeline`` runs them all on a Ray cluster.
"""
