"""Injection: scripts, probabilities, and the faults that are refused before anything runs."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.emulator import KINDS, Fault, FaultRates, Faults
from tests.support.for_each import for_each

from .conftest import SEED


def faults(**rates: dict[str | Fault, float]) -> Faults:
    return Faults(Random(SEED), rates)


def test_without_scripts_and_rates_nothing_goes_wrong() -> None:
    assert faults().draw("submit") is None


def test_a_script_applies_as_often_as_it_says() -> None:
    made = faults()
    made.script("poll", "502", times=2)
    assert [made.draw("poll") is not None for _ in range(4)] == [True, True, False, False]
    made.script("poll", "502", times=None)
    assert all(made.draw("poll") for _ in range(10))
    made.clear()
    assert made.draw("poll") is None


def test_scripts_apply_in_order_and_only_to_what_they_match() -> None:
    made = faults()
    made.script("submit", "500", match="river")
    made.script("submit", "502")
    made.script("poll", "504")
    assert made.draw("submit", "", "A city") == Fault("502")
    assert made.draw("submit", "", "A city") is None
    assert made.draw("submit", "", "A river in autumn") == Fault("500")
    assert made.draw("poll", "req_1") == Fault("504")


def test_a_script_waits_until_it_can_apply() -> None:
    made = faults()
    made.script("poll", "regressed")
    assert made.draw("poll", applies=lambda fault: False) is None
    assert made.draw("poll") == Fault("regressed")


def test_faults_at_arrival_are_drawn_separately_from_the_others() -> None:
    made = faults()
    made.script("submit", "502")
    made.script("submit", "drop_before_read")
    assert made.draw("submit", early=True) == Fault("drop_before_read")
    assert made.draw("submit", early=True) is None
    assert made.draw("submit") == Fault("502")


def test_faults_happen_at_their_rates_those_at_arrival_included() -> None:
    made = faults(submit={"drop_before_read": 0.3, "502 accepted=true": 0.2, Fault("500"): 0.1})
    found: Counter[str] = Counter()
    for _ in range(20_000):
        fault = made.draw("submit", early=True) or made.draw("submit")
        found[fault.kind if fault else "none"] += 1
    for kind, rate in (("drop_before_read", 0.3), ("502", 0.2), ("500", 0.1), ("none", 0.4)):
        assert found[kind] / 20_000 == pytest.approx(rate, abs=0.02), kind


def test_the_same_seed_gives_the_same_faults() -> None:
    def run() -> list[Fault | None]:
        made = faults(poll={"502": 0.3, "504": 0.3})
        return [made.draw("poll") for _ in range(50)]

    assert run() == run()
    assert len(set(run())) == 3


def test_an_arrival_fault_with_probability_one_leaves_none_for_the_others() -> None:
    made = faults(poll={"drop_before_read": 1.0})
    assert made.draw("poll", early=True) == Fault("drop_before_read")
    assert made.draw("poll") is None


def test_rates_can_be_replaced_and_are_shown() -> None:
    made = faults(poll={"502": 1.0})
    made.set_rates("poll", {})
    assert made.draw("poll") is None
    made.script("submit", "500")
    assert repr(made) == "<Faults scripted [submit: 500], rates for ['poll']>"


@for_each(
    ("operation", "fault", "message"),
    [
        ("submit", "meteor", "no such fault"),
        ("explode", "502", "no such operation"),
        ("submit", "regressed", "cannot happen to submit"),
        ("media", "gzip_bomb", "cannot happen to media"),
        ("cancel", "not_found first=2", "counts polls"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(operation: str, fault: str, message: str) -> None:
    made = faults()
    with pytest.raises(ValueError, match=message):
        made.script(operation, fault)
    with pytest.raises(ValueError, match=message):
        made.set_rates(operation, {fault: 0.1})


def test_a_match_on_a_prompt_that_is_not_read_yet_is_refused() -> None:
    with pytest.raises(ValueError, match="before the prompt is read"):
        faults().script("submit", "drop_before_read", match="river")
    faults().script("poll", "drop_before_read", match="req_1")


@for_each("rates", [{"502": -0.1}, {"502": float("nan")}, {"502": 0.7, "504": 0.4}])
def test_impossible_probabilities_are_refused(rates: dict[str | Fault, float]) -> None:
    with pytest.raises(ValueError, match="probabilit"):
        FaultRates("submit", rates)


def test_a_fault_without_a_charge_cannot_be_accepted() -> None:
    for kind in ("rate_limited", "503_refused", "drop_before_accept"):
        with pytest.raises(ValueError, match="nothing is charged"):
            Fault(kind, accepted=True)


def test_a_fault_is_parsed_from_text() -> None:
    assert Fault.parse("502") == Fault("502")
    assert Fault.parse("502 accepted=true seconds=0.5") == Fault("502", accepted=True, seconds=0.5)
    assert Fault.parse("truncated at=-3 framing=close reset=false") == Fault(
        "truncated", at=-3, framing="close"
    )
    assert Fault.parse("unknown_status value=paused") == Fault("unknown_status", value="paused")


def test_text_that_is_not_a_fault_is_refused() -> None:
    for text in (
        "",
        "meteor",
        "502 accepted",
        "502 accepted=yes",
        "502 seconds=long",
        "502 kind=500",
        "502 colour=red",
        "truncated framing=odd",
        "rate_limited retry_form=odd",
        "truncated at=1.5",
        "compressed value=rar",
    ):
        with pytest.raises(ValueError, match=r"."):
            Fault.parse(text)


@settings(deadline=None)
@given(
    st.text()
    | st.builds(
        "{} {}={}".format,
        st.sampled_from(sorted(KINDS)),
        st.sampled_from(["accepted", "seconds", "at", "first", "value", "code"]),
        st.text(),
    )
)
def test_any_text_is_a_fault_or_a_value_error(text: str) -> None:
    try:
        fault = Fault.parse(text)
    except ValueError:
        return
    assert fault.kind in KINDS
