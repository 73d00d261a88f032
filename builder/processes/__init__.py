"""Process functions: what turns one source into sequences, and the checks of what they return."""
