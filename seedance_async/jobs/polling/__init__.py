"""When jobs are polled, and what the answers mean."""
