"""Data: from data sets as their owners ship them to batches of network inputs."""
