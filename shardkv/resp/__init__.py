"""The Redis protocol: requests in, replies out. Bytes and values only, no sockets."""
