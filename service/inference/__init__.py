"""From an image's bytes to faces and expressions, within the service."""
