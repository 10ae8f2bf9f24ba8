"""From an output URL to a verified file."""
