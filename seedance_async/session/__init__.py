"""`SeedanceSession`: puts the rooms together."""
