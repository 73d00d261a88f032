"""Rows of many ranges, what is made of them, and what is known of a selection of sequences."""
