"""The session that every command gets."""

import pytest

from seedance_async import Backoff, LearnedPolls
from seedance_async.cli.connection import Connection
from seedance_async.cli.console import Screen
from tests.support.for_each import for_each


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "a_key")


def test_a_command_polls_and_learns_as_a_session_does():
    assert Connection(Screen()).session()._options.poll == LearnedPolls()


@for_each("interval", [1e-6, 0.5, 10.0])
def test_an_interval_of_the_user_makes_all_of_them_longer_or_shorter(interval):
    poll = Connection(Screen(), poll_interval=interval).session()._options.poll
    floor = min(0.01, interval)
    longest = pytest.approx(1.75 * interval)
    assert (poll.backoff.initial, poll.backoff.floor) == (interval, floor)
    assert poll.backoff.maximum == longest
    assert isinstance(poll.backoff, Backoff)
