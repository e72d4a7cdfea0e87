"""Side-by-side benchmarks: shardkv and redis-server, measured in turns on the same machine."""
