"""`seedance models`, against a real emulator."""


def test_models_are_listed(seedance, seedance_emulator):
    done = seedance("models")
    assert done.code == 0
    assert "seedance-2.0-fast  4 to 15 s  16:9 9:16 1:1  480p 720p 1080p" in done.out
    assert "seedance-1.5-pro  5, 10 s" in done.out
    assert "unit credits_per_second, 480p" in done.out
    assert seedance("models", "--json").records[0]["id"] == "seedance-2.0"


def test_a_model_without_fields_is_listed_too(seedance, seedance_emulator):
    seedance_emulator.faults.script("models", "null_fields")
    assert seedance("models").code == 0


def test_without_a_key_the_message_names_the_environment_variable(seedance):
    done = seedance("models")
    assert done.code == 3
    assert done.err == "seedance: no API key: set the environment variable SEEDANCE_API_KEY\n"
