"""What a command leaves behind in its process."""

import logging

from seedance_async.cli.console import Screen


def test_after_a_command_the_sdk_logs_as_it_did_before(caplog):
    """The loggers below remember whether they are on; that must be forgotten too."""
    logger = logging.getLogger("seedance_async.session.session")
    with Screen().logging(verbose=False):
        logger.warning("hidden")
    logger.warning("seen")
    assert [record.getMessage() for record in caplog.records] == ["seen"]
