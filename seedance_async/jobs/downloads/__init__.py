"""Downloads: from an output URL to a verified file."""
