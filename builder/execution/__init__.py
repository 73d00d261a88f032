"""The run of a build: batches of sources to the workers, their rows into shards, and commits."""
