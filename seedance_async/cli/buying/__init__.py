"""What a command is about to buy: what it would cost, and whether the user wants that.

Nothing here submits anything.
"""
