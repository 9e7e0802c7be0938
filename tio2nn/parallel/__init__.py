"""Worker processes, work on shards, progress."""
