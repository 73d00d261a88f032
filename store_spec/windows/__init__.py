"""Windows by number, in which order an epoch gives them, and the batches that are cut from rows read for that."""
