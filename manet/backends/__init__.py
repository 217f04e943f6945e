"""Backends: what runs the network, one module for each, behind one protocol."""
