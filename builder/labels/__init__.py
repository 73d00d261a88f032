"""Where the labels of a source come from, and classes that are text."""
