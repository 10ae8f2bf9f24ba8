"""`SeedanceSession`: puts the parts together."""
