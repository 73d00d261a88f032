"""Long campaigns against the promises: `python -m tests.campaigns NAME [--quick]`, from the repository's root."""
