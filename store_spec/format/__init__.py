"""The content of a store's files: chunks and shards, metadata documents, and the table rows of sequences."""
