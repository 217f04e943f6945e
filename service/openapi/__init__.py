"""The OpenAPI document: what the routes share in it, and its examples."""
