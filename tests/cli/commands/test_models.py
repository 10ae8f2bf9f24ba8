"""`seedance models`, against a real emulator."""

from seedance_async import ModelInfo
from seedance_async.cli.commands.models import _row
from tests.support.for_each import for_each


def test_models_are_listed(seedance, seedance_emulator):
    done = seedance("models")
    assert done.code == 0
    assert done.out.splitlines()[0] == (
        "seedance-2.0  4\N{EN DASH}15 s  16:9 9:16 1:1  480p 720p 1080p  "
        "480p: 4, 720p: 8, 1080p: 16 credits per second"
    )
    assert "seedance-1.5-pro  5, 10 s" in done.out
    assert seedance("models", "--json").records[0]["id"] == "seedance-2.0"


@for_each(
    ("durations", "pricing", "row"),
    [
        (
            [4, 5, 6, 8, 9, 12],
            {"base": 5, "per": {"s": 2}},
            '4\N{EN DASH}6, 8, 9, 12 s  base: 5, per: {"s": 2}',
        ),
        ([5], ["free", 0], '5 s  ["free", 0]'),
        ([], {"unit": 7}, "unit: 7"),
        ([], None, ""),
    ],
)
def test_prices_of_any_form_are_shown_as_the_server_tells_them(durations, pricing, row):
    model = ModelInfo("m", tuple(durations), (), (), pricing, raw={})
    assert _row(model) == f"m  {row}".strip()


def test_a_model_without_fields_is_listed_too(seedance, seedance_emulator):
    seedance_emulator.faults.script("models", "null_fields")
    assert seedance("models").code == 0


def test_without_a_key_the_message_names_the_environment_variable(seedance):
    done = seedance("models")
    assert done.code == 3
    assert done.err == "seedance: no API key: set the environment variable SEEDANCE_API_KEY\n"
