"""Selections of sequences, their splits and statistics, normalisation, and reading of many ranges of rows."""
