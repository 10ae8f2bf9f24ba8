"""Batches whose jobs other processes make: enqueued, shown, and written down as any batch."""
