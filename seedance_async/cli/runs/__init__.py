"""What `generate`, `batch` and `resume` share: a run, its progress, its outcomes."""
