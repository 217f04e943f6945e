"""Routes: thin handlers, one file for each resource."""
