"""Long attempts to violate the promises of a store: `python -m tests.campaigns NAME [--quick]`."""
