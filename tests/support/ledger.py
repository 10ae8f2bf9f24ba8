"""What the ledger of an emulator says of the requests of a test."""

from collections import Counter


def charged(emulator, requests):
    """How many of the requests were charged how often."""
    by_prompt = emulator.ledger.charged_prompts()
    return Counter(by_prompt[each.prompt] for each in requests)
