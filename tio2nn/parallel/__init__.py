"""Where work happens: processes, shards, progress."""
