"""Scripts, without a server."""
