"""Offline: millions of pictures, cut into parts, each answered as a file of its own; what is done is not done again.

``plan`` cuts the pictures into parts, ``part`` answers one, and ``pipeline`` runs them all on a Ray cluster.
"""
