"""Bulk: many image files at once: walked, looked at in threads, answered in batches, written down as they come.

``walk`` names the files, ``pipeline`` answers them by way of ``flow``, and what is made of an answer is a
``sinks.Sink``. Another engine takes the place of ``pipeline.answers``: from files to outcomes, in their order.
"""
