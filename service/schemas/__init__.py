"""The JSON objects that clients send and receive."""
