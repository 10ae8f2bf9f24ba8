"""What a person sees of a run while it goes on: rows, a bar, news, a heartbeat, events as JSON."""
