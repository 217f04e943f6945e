"""Video: a clip through the recognizer, frame by frame: read, answered, followed, written down, drawn into a copy.

``clip`` reads it, ``pipeline`` answers its frames, ``annotated`` writes the copy. They need PyAV, the extra ``video``;
``names`` does not.
"""
