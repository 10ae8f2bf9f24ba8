"""Takes: several jobs of one line. Which take has which key, and which are bought next.

Nothing here sends anything.
"""
