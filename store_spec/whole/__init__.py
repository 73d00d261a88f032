"""Batches of whole sequences, padded or as streams that go on where the batch before ended."""
