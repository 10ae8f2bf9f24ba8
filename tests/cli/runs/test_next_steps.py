"""The commands that a run suggests."""

from seedance_async.cli.runs.next_steps import NextSteps


def test_an_id_that_looks_like_an_option_can_be_copied_into_a_shell():
    command = NextSteps().download(["-x", "a b"])
    assert command == "seedance status -o . -- -x 'a b'"
