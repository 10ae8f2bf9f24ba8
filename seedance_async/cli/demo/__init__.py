"""`seedance demo`."""
