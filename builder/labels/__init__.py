"""Where the labels of a source come from, how they meet its rows, and classes that are text."""
