"""What the API answers, as values."""

from seedance_async import Generation, GenerationStatus
from tests.support.for_each import for_each

LONG = "A river in autumn, seen from a slow boat at dawn, with rain on the water"


@for_each(
    ("shown", "same"),
    [
        (LONG, True),
        (f"  {LONG}\n", True),
        (LONG.replace(" ", "  "), True),
        (LONG[:50], True),
        (LONG[:50] + "…", True),
        (LONG[:50] + "...", True),
        (LONG[:30], False),
        (LONG + " and snow", False),
        (LONG.replace("river", "road"), False),
        ("", False),
        (None, False),
    ],
)
def test_a_prompt_that_the_server_trimmed_is_recognised(shown, same):
    generation = Generation("req_1", GenerationStatus.QUEUED, prompt=shown)
    assert generation.has_prompt(LONG) is same
