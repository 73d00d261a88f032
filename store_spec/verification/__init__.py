"""What is wrong with a store, and how files of it are put again."""
