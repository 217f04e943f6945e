"""Trained parameters: what is known of them, where their files lie, how they are read and written."""
