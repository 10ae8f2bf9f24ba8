"""Many calls waited for, in one process."""
