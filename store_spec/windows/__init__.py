"""Windows by number, their order in an epoch, and batches of them."""
