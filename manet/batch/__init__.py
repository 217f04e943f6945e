"""Bulk: many image files at once: walked, decoded in threads, answered in batches, written as they come.

``walk`` names the files, ``pipeline`` answers them by way of ``flow``, and what is made of an answer is a
``sinks.Sink``. Another engine takes the place of ``pipeline.answers``: from files to outcomes, in their order.
"""
