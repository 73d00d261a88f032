"""From the rows of a source, a pyarrow.Table, to the inputs and labels of sequences."""
