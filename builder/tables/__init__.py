"""From the rows of a table to the inputs and labels of sequences."""
