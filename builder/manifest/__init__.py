"""The table with one row a source: which row is whose, its labels, and what else of it is kept."""
