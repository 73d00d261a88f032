"""Batches of whole sequences, padded or as streams that continue from batch to batch."""
