"""What is done around every request; pure ASGI, so that a client's hang-up still reaches the handler."""
