"""The demo: its scenario, and what plays it."""
