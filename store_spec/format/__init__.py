"""What the files of a store hold: bytes of chunks and shards, documents, and what the tables say of sequences."""
