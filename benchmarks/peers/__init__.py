"""The same work through the SDK, through the clients of other video APIs, and by hand."""
