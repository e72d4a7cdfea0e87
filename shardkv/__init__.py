"""Everything a shard is: commands, data, persistence, and the worker that serves them."""

__version__ = "0.1.0"

REDIS_VERSION = "7.2.4"
"""The Redis version whose behaviour clients may expect; what INFO and HELLO answer."""
