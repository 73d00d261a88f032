"""The work on sources in worker processes: start these, process a batch of sources, and check what comes out."""
