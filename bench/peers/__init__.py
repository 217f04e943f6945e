"""Peers: other ways to serve the same weights, each written as its framework's documentation shows, at its best here.

All take one JPEG of a face and answer ``{"faces": [{"expression", "confidence", "probabilities"}]}``. They share the
project's decoding, preprocessing and weights, so that what differs is the framework and the engine alone.
"""
