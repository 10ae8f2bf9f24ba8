"""What the screen writes, and what it leaves behind in its process."""

import logging

from seedance_async.cli.console import Screen, printable


def test_after_a_command_the_sdk_logs_as_it_did_before(caplog):
    """Loggers cache whether they are enabled; that cache must be cleared too."""
    logger = logging.getLogger("seedance_async.session.session")
    with Screen().logging(verbose=False):
        logger.warning("hidden")
    logger.warning("seen")
    assert [record.getMessage() for record in caplog.records] == ["seen"]


def test_what_would_be_lost_is_shown_without_verbose(capsys):
    """As the id of an accepted job that the disk had no room for."""
    logger = logging.getLogger("seedance_async.session.journaling")
    with Screen().logging(verbose=False):
        logger.error("hidden")
        logger.critical("job mine is queued, with the request id req_1, and that is NOT on record")
    shown = capsys.readouterr().err
    assert "req_1" in shown
    assert "hidden" not in shown


def test_long_waits_are_shown_without_being_asked_for(capsys):
    waits, others = (
        logging.getLogger(f"seedance_async.api.{name}") for name in ("long_waits", "x")
    )
    with Screen().logging(verbose=False):
        waits.warning("waiting since 10 s for the network")
        waits.info("waiting since 10 s for a slot")
        others.warning("something else")
    shown = capsys.readouterr().err
    assert "for the network" in shown
    assert "slot" not in shown
    assert "else" not in shown
    assert waits.level == logging.NOTSET


def test_control_characters_are_escaped_and_nothing_else():
    assert printable("a\x1b[2J\x07\n漢字 🦊\u3000é") == "a\\x1b[2J\\x07\n漢字 🦊\u3000é"
    assert printable("\u202e\u2028\ud800") == "\\u202e\\u2028\\ud800"


def test_the_key_is_redacted_in_everything_that_is_written(monkeypatch, capsys):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_secret")
    screen = Screen()
    screen.say("the key is sd2_live_secret")
    screen.answer("sd2_live_secret!")
    screen.record({"key": "sd2_live_secret"})
    shown = capsys.readouterr()
    assert shown.err == "the key is ***\n"
    assert shown.out == '***!\n{"key": "***"}\n'


def test_a_placeholder_for_a_key_is_not_redacted(monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "a")
    assert Screen().without_key("a river") == "a river"
