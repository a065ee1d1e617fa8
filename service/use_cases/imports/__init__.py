"""What an import reads: files in folders, and the kinds of shards, a module each."""
