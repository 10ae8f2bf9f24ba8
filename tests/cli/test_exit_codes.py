"""The exit codes: which of several wins, and that the documentation says so."""

import itertools
import re
from pathlib import Path

import seedance_async
from seedance_async import SeedanceError
from seedance_async.cli.exit_codes import PRECEDENCE, ExitCode, code_of, worst
from tests.support.for_each import for_each

DOCS = Path(seedance_async.__file__).parents[1] / "docs" / "cli.md"


def test_no_error_is_success():
    assert code_of(None) is worst([]) is worst([ExitCode.SUCCESS]) is ExitCode.SUCCESS


@for_each("pair", list(itertools.combinations(PRECEDENCE, 2)))
def test_the_first_in_order_of_precedence_wins(pair):
    assert worst(pair) is worst(reversed(pair)) is pair[0]


def test_every_error_of_the_sdk_has_a_code():
    errors = [
        value
        for value in vars(seedance_async).values()
        if isinstance(value, type) and issubclass(value, SeedanceError)
    ]
    codes = {error.__name__: code_of(error.__new__(error)) for error in errors}
    assert codes["SeedanceError"] is codes["GenerationFailedError"] is ExitCode.FAILED
    assert codes["SubmitUncertainError"] is codes["JobTimeoutError"] is ExitCode.UNCERTAIN
    assert codes["InsufficientCreditsError"] is codes["AuthenticationError"] is ExitCode.REFUSED
    assert codes["DownloadError"] is ExitCode.NOT_SAVED
    assert codes["ConfigurationError"] is ExitCode.CONFIGURATION
    assert codes["InvalidRequestError"] is ExitCode.USAGE
    assert ExitCode.SUCCESS not in codes.values()


def test_the_documentation_has_every_code_once():
    rows = re.findall(r"^\| (\d+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(row) for row in rows] == [code.value for code in ExitCode]
