"""What `shardkv` can do besides serving: a module per tool, named as the tool is, in which the click command
is called `tool`. It is imported only when it is asked for."""
