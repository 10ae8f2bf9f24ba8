"""Delays as arithmetic, and both forms of Retry-After."""

import math
import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import Backoff
from seedance_async.api.backoff import retry_after

SENT = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def http_date(seconds):
    return formatdate(seconds, usegmt=True)


@st.composite
def backoffs(draw):
    floor = draw(st.floats(1e-6, 10))
    initial = draw(st.floats(floor, 1e3))
    return Backoff(
        floor=floor,
        initial=initial,
        maximum=draw(st.floats(initial, 1e9)),
        multiplier=draw(st.floats(1, 100) | st.integers(1, 100)),
        jitter=draw(st.floats(0, 1)),
    )


attempts = st.integers(0, 100) | st.integers(0, 10**400)


class Drawn:
    """A source of randomness that always gives the same number."""

    def __init__(self, number):
        self.random = lambda: number


@given(backoffs(), attempts, st.randoms(use_true_random=False))
def test_a_delay_is_never_below_the_floor_nor_above_the_maximum(backoff, attempt, rng):
    assert backoff.floor <= backoff.delay(attempt, rng) <= backoff.maximum


@given(backoffs(), st.integers(0, 500))
def test_full_delays_never_shrink(backoff, attempt):
    now, then = backoff.full_delay(attempt), backoff.full_delay(attempt + 1)
    assert backoff.initial <= now <= then * (1 + 1e-12)


@given(backoffs(), st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_jitter_shortens_a_delay_by_its_share_at_most(backoff, attempt, drawn):
    full = backoff.full_delay(attempt)
    least = max(backoff.floor, full * (1 - backoff.jitter))
    assert least * (1 - 1e-12) <= backoff.delay(attempt, Drawn(drawn)) <= full


def test_delays_grow_by_the_multiplier_up_to_the_maximum():
    backoff = Backoff(initial=2, multiplier=3, maximum=50)
    assert [backoff.full_delay(n) for n in range(5)] == [2, 6, 18, 50, 50]


def test_a_huge_attempt_waits_the_maximum_and_costs_no_time():
    for backoff in (Backoff(multiplier=2), Backoff(multiplier=2.0), Backoff(initial=2)):
        assert backoff.full_delay(10**9) == backoff.maximum
        assert backoff.full_delay(10**400) == backoff.maximum


def test_without_growth_every_delay_is_the_first():
    assert Backoff(multiplier=1).full_delay(10**9) == 2.0


def test_full_jitter_reaches_from_the_floor_to_the_full_delay():
    backoff = Backoff(initial=4.0, jitter=1.0, floor=0.5)
    assert backoff.delay(0, Drawn(0.0)) == 4.0
    assert backoff.delay(0, Drawn(0.5)) == 2.0
    assert backoff.delay(0, Drawn(0.9999)) == 0.5


def test_without_jitter_nothing_is_random():
    backoff = Backoff(jitter=0)
    assert backoff.delay(2, Drawn(0.7)) == backoff.full_delay(2)


def test_the_same_seed_gives_the_same_delays():
    backoff = Backoff(jitter=1.0)
    one, other = random.Random(5), random.Random(5)
    assert [backoff.delay(n, one) for n in range(9)] == [backoff.delay(n, other) for n in range(9)]


def test_a_value_that_is_not_a_number_or_out_of_bounds_is_named_in_the_error():
    never = [math.nan, math.inf, -math.inf, -1, None, "2", True, 10**400]
    refused = {
        "initial": [*never, 0],
        "multiplier": [*never, 0.99],
        "maximum": [*never, 1.99],
        "jitter": [*never, 1.01, -0.01],
        "floor": [*never, 0, 3.0],
    }
    for name, values in refused.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"Backoff\.{name} must be"):
                Backoff(**{name: value})


def test_values_on_their_bounds_are_accepted():
    backoff = Backoff(initial=1, multiplier=1, maximum=1, jitter=1, floor=1)
    assert backoff.delay(7, Drawn(0.9)) == 1


# --- Retry-After --------------------------------------------------------------------------------


def test_seconds_are_read():
    read = {"0": 0, "120": 120, " 7 ": 7, "1.5": 1.5, "007": 7, "9" * 12: 999_999_999_999}
    for value, seconds in read.items():
        assert retry_after(value, date=None, now=SENT) == seconds


def test_garbage_asks_for_no_wait():
    for value in (
        None,
        "",
        " ",
        "-5",
        "+5",
        "nan",
        "inf",
        "1e3",
        "0x10",
        "5.",
        ".5",
        "1_000",
        "9" * 13,
        "9" * 5000,
        "120, 120",
        "soon",
        "\u0661\u0662",  # Arabic-Indic digits
        "\uff15",  # a full-width 5
        "\u00b2",
        "5\x00",
        "Foo, 99 Bar 2023 99:99:99 GMT",
        "Tue, 14 Nov 99999 22:13:20 GMT",
        "Tue, 14 Nov 2023 22:13:20 +999999999",
    ):
        assert retry_after(value, date=http_date(SENT), now=SENT) is None, ascii(value)[:30]


def test_a_date_is_relative_to_the_date_of_the_response_and_not_to_a_skewed_clock():
    value, date = http_date(SENT + 90), http_date(SENT)
    for skew in (-1e6, 0, 1e6):
        assert retry_after(value, date=date, now=SENT + skew) == 90


def test_without_a_valid_date_of_the_response_the_local_clock_is_used():
    for date in (None, "", "yesterday", "nan"):
        assert retry_after(http_date(SENT + 90), date=date, now=SENT) == 90


def test_a_date_in_the_past_asks_for_no_wait():
    assert retry_after(http_date(SENT - 90), date=http_date(SENT), now=0) == 0


def test_a_date_without_a_zone_is_in_gmt_and_not_in_local_time():
    for zone in ("", " -0000", " +0000", " UTC", " GMT"):
        value = "Tue, 14 Nov 2023 22:13:20" + zone
        assert retry_after(value, date=None, now=SENT - 10) == 10, zone


def test_the_zone_of_this_machine_does_not_matter(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after("Tue, 14 Nov 2023 22:13:20", date=None, now=SENT) == 0
        assert retry_after("Tue, 14 Nov 2023 22:13:21", date=None, now=SENT) == 1
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_two_obsolete_date_forms_are_read_too():
    """RFC 9110, section 5.6.7, requires that of every recipient."""
    for value in ("Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023"):
        assert retry_after(value, date=None, now=SENT - 5) == 5, value


date_like = st.from_regex(
    r"(\w{0,9},? ?)?[-+]?\d{0,4}[- ]\w{0,5}[- ]\d{0,6} "
    r"\d{0,3}[:.]\d{0,3}([:.]\d{0,3})? ?([-+]?\w{0,6})"
)


@given(
    st.text() | date_like | st.floats().map(str) | st.integers().map(str),
    st.none() | st.text() | date_like,
)
def test_any_header_asks_for_no_wait_or_a_finite_one(value, date):
    wait = retry_after(value, date=date, now=SENT)
    assert wait is None or 0 <= wait < math.inf
