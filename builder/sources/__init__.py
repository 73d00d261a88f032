"""The source files: which there are, their fingerprints, and which of them changed."""
