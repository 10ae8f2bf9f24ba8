"""What every journal does, wherever it keeps its records."""

import asyncio
import logging

import attrs
import pytest

from seedance_async import JobState, JournalError
from seedance_async.journal import Intent, JournalEntry
from tests.journal.conftest import START, claimed, intent

#: On disk. A journal that one version wrote must be readable by the next: these never change.
RECORDED_STATES = {
    "submitting", "queued", "processing", "succeeded", "failed", "cancelled", "rejected",
    "uncertain", "abandoned",
}  # fmt: skip
OPEN = ("submitting", "rejected", "uncertain")
ACCEPTED = sorted(RECORDED_STATES - set(OPEN))
FILE = {"path": "out/a.mp4", "size": 123, "sha256": "a" * 64}


async def state_of(journal, key="a"):
    return (await journal.find(key)).state


# --- claiming -----------------------------------------------------------------------------------


async def test_a_free_key_is_claimed_and_the_intent_recorded(journal):
    number = await journal.claim(
        Intent("a", "f1", '{"x":1}', kind="k", origin="https://api.example", credits=7)
    )
    assert await journal.find("a") == JournalEntry(
        key="a",
        fingerprint="f1",
        request='{"x":1}',
        attempt=number,
        state="submitting",
        origin="https://api.example",
        credits_reserved=7,
        created_at=START,
        updated_at=START,
    )


async def test_a_taken_key_is_not_claimed_and_nothing_changes(journal, clock):
    number = await claimed(journal, "a")
    for state in ("submitting", "rejected", "uncertain", "queued"):
        await journal.record(number, state=state)
        before = await journal.entries()
        clock.now += 5
        assert await journal.claim(intent("a", request="2")) is None
        assert await journal.entries() == before


async def test_of_many_claims_of_one_key_at_once_one_succeeds(journal):
    results = await asyncio.gather(*(journal.claim(intent()) for _ in range(50)))
    assert results.count(None) == 49


async def test_keys_differ_by_case_and_by_trailing_characters(journal):
    await claimed(journal, "a", "A", "a ", "a\0", "ä", "a\u0308")
    assert len(await journal.entries()) == 6


# --- claiming again -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", OPEN)
async def test_a_job_without_an_acceptance_is_claimed_again_by_naming_its_last_attempt(
    journal, clock, state
):
    first = await claimed(journal, "a", credits=40)
    await journal.record(first, state=state, error="why")
    await journal.record_file("a", **FILE)
    clock.now += 5
    second = await journal.claim(intent("a", credits=9, request="2"), after=first)
    assert second > first
    doubtful = None if state == "rejected" else 40
    assert await journal.find("a") == JournalEntry(
        "a",
        "f",
        "2",
        attempt=second,
        credits_reserved=9,
        credits_doubtful=doubtful,
        created_at=START,
        updated_at=clock.now,
    )


async def test_of_many_that_claim_a_job_again_at_once_one_succeeds(journal):
    first = await claimed(journal, "a")
    await journal.record(first, state="uncertain")
    again = (journal.claim(intent(), after=first) for _ in range(50))
    assert (await asyncio.gather(*again)).count(None) == 49


async def test_who_names_another_attempt_than_the_last_one_gets_nothing(journal):
    first = await claimed(journal, "a")
    await journal.record(first, state="rejected")
    second = await journal.claim(intent(), after=first)
    before = await journal.entries()
    for key, after in [("a", first), ("a", second + 1), ("nobody", first)]:
        assert await journal.claim(intent(key), after=after) is None
    assert await journal.entries() == before


@pytest.mark.parametrize("state", ACCEPTED)
async def test_a_job_that_the_server_accepted_can_never_be_claimed_again(journal, state):
    number = await claimed(journal, "a")
    await journal.record(number, state=state, request_id="req_1")
    assert await journal.claim(intent(), after=number) is None
    assert await state_of(journal) == state


# --- what becomes of an attempt -----------------------------------------------------------------


async def test_what_is_recorded_changes_its_own_job_and_no_other(journal, clock):
    await claimed(journal, "a", "b")
    mine, other = await journal.entries()
    clock.now += 5
    learned = {"state": "queued", "request_id": "req_1", "credits_charged": 40, "error": "e"}
    await journal.record(mine.attempt, **learned, output_url="https://media.example/1.mp4")
    expected = attrs.evolve(
        mine, **learned, output_url="https://media.example/1.mp4", updated_at=clock.now
    )
    assert await journal.entries() == [expected, other]
    await journal.record(mine.attempt, error=None)
    assert await journal.entries() == [attrs.evolve(expected, error=None), other]


async def test_every_state_but_pending_can_be_recorded(journal):
    assert {str(state) for state in JobState} - {"pending"} == RECORDED_STATES
    for state in set(JobState) - {JobState.PENDING}:
        number = await claimed(journal, state.value)
        await journal.record(number, state=state)
        found = await state_of(journal, state.value)
        assert (found, type(found)) == (state.value, str)


@pytest.mark.parametrize("before", ACCEPTED)
@pytest.mark.parametrize("after", OPEN)
async def test_an_acceptance_is_never_taken_back(journal, before, after):
    number = await claimed(journal, "a")
    await journal.record(number, state=before, request_id="req_1", credits_charged=40)
    known = await journal.find("a")
    await journal.record(number, state=after, request_id=None, credits_charged=None)
    assert await journal.find("a") == known


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
async def test_an_end_never_changes(journal, end):
    number = await claimed(journal, "a")
    await journal.record(number, state=end, request_id="req_1")
    for state in ACCEPTED:
        await journal.record(number, state=state, request_id="req_1")
        assert await state_of(journal) == end


async def test_doubt_is_never_taken_back_but_by_an_acceptance(journal):
    number = await claimed(journal, "a")
    await journal.record(number, state="uncertain", error="lost")
    await journal.record(number, state="rejected", error="it was never sent")
    assert await state_of(journal) == "uncertain"
    await journal.record(number, state="queued", request_id="req_1")
    assert await state_of(journal) == "queued"


async def test_an_acceptance_is_recorded_however_late_it_comes(journal):
    first = await claimed(journal, "a")
    await journal.record(first, state="rejected")
    second = await journal.claim(intent(), after=first)
    await journal.record(first, state="queued", request_id="req_1", credits_charged=40)
    found = await journal.find("a")
    assert (found.state, found.request_id) == ("queued", "req_1")
    await journal.record(second, state="queued", request_id="req_2", credits_charged=41)
    found = await journal.find("a")
    assert (found.request_id, found.credits_charged) == ("req_2", 81)


@pytest.mark.parametrize("ended", [0, 1])
async def test_of_two_accepted_attempts_the_id_is_that_of_the_one_whose_end_is_recorded(
    journal, ended
):
    attempts = [await claimed(journal, "a")]
    await journal.record(attempts[0], state="uncertain")
    attempts.append(await journal.claim(intent(), after=attempts[0]))
    for number, attempt in enumerate(attempts):
        await journal.record(attempt, state="queued", request_id=f"req_{number}")
    await journal.record(attempts[ended], state="succeeded", request_id=f"req_{ended}")
    await journal.record(attempts[1 - ended], state="failed", request_id=f"req_{1 - ended}")
    found = await journal.find("a")
    assert (found.state, found.request_id) == ("succeeded", f"req_{ended}")


async def test_a_refusal_does_not_settle_an_earlier_attempt(journal):
    first = await claimed(journal, "a")
    await journal.record(first, state="uncertain")
    second = await journal.claim(intent(), after=first)
    await journal.record(second, state="rejected", error="no")
    assert await state_of(journal) == "uncertain"


async def test_a_second_id_of_an_attempt_is_kept_beside_the_first_and_shouted(journal, caplog):
    number = await claimed(journal, "a", kind="k")
    await journal.record(number, state="queued", request_id="req_1", credits_charged=40)
    await journal.record(number, state="queued", request_id="req_2", credits_charged=30)
    found = await journal.find("a")
    assert (found.request_id, found.credits_charged) == ("req_1", 70)
    assert await journal.spent() == 70
    critical = [each.getMessage() for each in caplog.records if each.levelno == logging.CRITICAL]
    assert "req_1" in critical[0]
    assert "req_2" in critical[0]


async def test_the_id_that_an_uncertain_answer_named_may_turn_out_wrong(journal, caplog):
    number = await claimed(journal, "a")
    await journal.record(number, state="uncertain", request_id="req_1")
    assert not (await journal.find("a")).is_uncertain, "there is an id to ask for"
    await journal.record(number, state="queued", request_id="req_2")
    found = await journal.find("a")
    assert (found.state, found.request_id) == ("queued", "req_2")
    await journal.record(found.attempt, state="succeeded", request_id="req_2")
    assert await state_of(journal) == "succeeded"
    assert not caplog.records


@pytest.mark.parametrize("told", [{}, {"state": "rejected"}, {"state": "submitting"}])
async def test_an_id_is_an_acceptance_whatever_else_is_said(journal, told):
    number = await claimed(journal, "a")
    await journal.record(number, state="uncertain", request_id="req_1")
    await journal.record(number, request_id="req_2", **told)
    found = await journal.find("a")
    assert (found.state, found.request_id) == ("queued", "req_2")


async def test_an_uncertain_answer_that_names_another_job_is_uncertain_all_the_same(journal):
    first = await claimed(journal, "a")
    await journal.record(first, state="queued", request_id="req_1")
    second = await claimed(journal, "b")
    await journal.record(second, state="uncertain", request_id="req_1")
    assert (await journal.find("b")).is_uncertain


async def test_an_unknown_attempt_cannot_be_recorded(journal):
    with pytest.raises(JournalError, match="no attempt 17") as caught:
        await journal.record(17, state="queued", request_id="req_1")
    assert caught.value.request_id == "req_1"
    assert await journal.entries() == []


async def test_the_request_id_of_another_job_is_refused_and_nothing_changed(journal):
    first = await claimed(journal, "a")
    second = await claimed(journal, "b")
    await journal.record(first, state="queued", request_id="req_1")
    before = await journal.entries()
    with pytest.raises(JournalError, match="'req_1' is that of the entry with key 'a'") as caught:
        await journal.record(second, state="queued", request_id="req_1")
    assert caught.value.request_id == "req_1"
    assert await journal.entries() == before


async def test_two_apis_may_use_the_same_request_id(journal):
    for number, origin in enumerate(["https://one.example", "https://two.example"]):
        attempt = await journal.claim(intent(f"{number}", origin=origin))
        await journal.record(attempt, state="queued", request_id="req_1")
    attempt = await journal.claim(intent("unknown"))
    with pytest.raises(JournalError, match="'req_1' is that of the entry"):
        await journal.record(attempt, state="queued", request_id="req_1")
    assert [entry.request_id for entry in await journal.entries()] == ["req_1", "req_1", None]


async def test_a_field_that_cannot_change_is_a_type_error(journal):
    number = await claimed(journal, "a")
    for name in ("key", "fingerprint", "request", "created_at", "credits_reserved", "path"):
        with pytest.raises(TypeError, match=name):
            await journal.record(number, **{name: "x"})
        with pytest.raises(TypeError, match=name):
            journal.record_soon(number, **{name: "x"})


BAD = [
    ("state", "pending"),
    ("state", "Queued"),
    ("state", None),
    ("state", 5),
    ("request_id", "\ud800"),
    ("request_id", b"req"),
    ("error", "tail \udfff"),
    ("output_url", 1),
    ("credits_charged", True),
    ("credits_charged", "4"),
    ("credits_charged", -1),
    ("credits_charged", 2**63),
    ("credits_charged", 1.0),
]


async def test_a_value_that_cannot_be_recorded_is_refused_and_its_field_named(journal):
    number = await claimed(journal, "a")
    before = await journal.entries()
    for name, value in BAD:
        with pytest.raises(JournalError, match=f": {name} "):
            await journal.record(number, **{name: value})
        assert await journal.entries() == before


async def test_the_request_id_is_in_the_error_even_if_another_field_is_wrong(journal):
    number = await claimed(journal, "a")
    with pytest.raises(JournalError, match="error holds") as caught:
        await journal.record(number, request_id="req_1", error="\ud800")
    assert caught.value.request_id == "req_1"


BAD_INTENTS = [
    ("key", "\ud800"),
    ("key", None),
    ("fingerprint", "\ud800"),
    ("request", "\ud800"),
    ("request", None),
    ("origin", 5),
]


async def test_an_intent_that_cannot_be_recorded_is_refused_and_its_field_named(journal):
    for name, value in BAD_INTENTS:
        with pytest.raises(JournalError, match=f": {name} "):
            await journal.claim(attrs.evolve(intent(), **{name: value}))
    with pytest.raises(JournalError, match=": credits_reserved "):
        await journal.claim(intent(credits=-1))
    assert await journal.entries() == []


async def test_a_key_that_cannot_be_recorded_is_refused_by_every_method(journal):
    for call in (
        journal.find("\ud800"),
        journal.record_file("\ud800", **FILE),
        journal.forget(["\ud800"]),
    ):
        with pytest.raises(JournalError, match="key holds a lone surrogate"):
            await call


# --- jobs that were submitted elsewhere ---------------------------------------------------------


async def test_a_job_that_was_submitted_elsewhere_is_recorded_once_as_accepted(journal):
    number = await journal.adopt(intent("attached-req_1"), "req_1")
    found = await journal.find("attached-req_1")
    assert (found.attempt, found.state, found.request_id) == (number, "queued", "req_1")
    assert await journal.adopt(intent("another"), "req_1") == number
    assert len(await journal.entries()) == 1
    assert (await journal.spent(), await journal.prices()) == (0, {})


async def test_who_has_submitted_an_attached_job_records_it_in_its_own_entry(journal):
    number = await claimed(journal, "a")
    attached = await journal.adopt(intent("b", fingerprint="attached req_1"), "req_1")
    await journal.record(number, state="queued", request_id="req_1", credits_charged=40)
    await journal.record(attached, state="queued", request_id="req_1")
    (entry,) = await journal.entries()
    assert (entry.key, entry.request_id, await journal.spent()) == ("a", "req_1", 40)


async def test_a_job_that_was_submitted_elsewhere_does_not_take_the_key_of_another(journal):
    await claimed(journal, "a")
    with pytest.raises(JournalError, match="'a' belongs to another job") as caught:
        await journal.adopt(intent("a"), "req_1")
    assert caught.value.request_id == "req_1"
    assert (await journal.find("a")).request_id is None


# --- files --------------------------------------------------------------------------------------


async def test_where_a_video_is_saved_is_recorded(journal, clock):
    await claimed(journal, "a")
    before = await journal.find("a")
    clock.now += 5
    await journal.record_file("a", **FILE)
    assert await journal.find("a") == attrs.evolve(before, **FILE, updated_at=clock.now)


async def test_a_file_of_no_job_or_of_no_size_is_refused(journal):
    await claimed(journal, "a")
    with pytest.raises(JournalError, match="'nobody'"):
        await journal.record_file("nobody", **FILE)
    for name, value in [("path", 1), ("sha256", 1.5), ("size", -1), ("size", 1.0)]:
        with pytest.raises(JournalError, match=f": {name} "):
            await journal.record_file("a", **FILE | {name: value})


# --- recording soon -----------------------------------------------------------------------------


async def test_what_is_recorded_soon_is_seen_by_later_reads(journal):
    number = await claimed(journal, "a")
    journal.record_soon(number, state="queued", request_id="req_1")
    journal.record_soon(number, state="processing")
    assert await state_of(journal) == "processing"
    journal.record_soon(number, state="succeeded")
    assert [entry.state for entry in await journal.entries()] == ["succeeded"]


async def test_records_take_effect_in_the_order_of_the_calls(journal):
    number = await claimed(journal, "a")
    journal.record_soon(number, error="1", credits_charged=1)
    await journal.record(number, error="2")
    journal.record_soon(number, error="3")
    await journal.flush()
    found = await journal.find("a")
    assert (found.error, found.credits_charged) == ("3", 1)


async def test_a_record_soon_that_fails_is_logged_and_raised_once(journal, caplog):
    number = await claimed(journal, "a")
    for error, (attempt, changes) in enumerate(
        [(17, {"state": "queued"}), (number, {"error": "\ud800"})]
    ):
        caplog.clear()
        journal.record_soon(attempt, **changes)
        journal.record_soon(number, error=f"{error}")  # not affected by the failure
        with pytest.raises(JournalError):
            await journal.flush()
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        await journal.flush()
        assert (await journal.find("a")).error == f"{error}"


async def test_a_kept_failure_is_raised_by_the_next_call_which_does_nothing_else(journal):
    number = await claimed(journal, "a", kind="k")
    await journal.record(number, state="uncertain")
    before = await journal.entries()
    for call in (
        lambda: journal.claim(intent("b")),
        lambda: journal.claim(intent("a"), after=number),
        lambda: journal.find("a"),
        journal.entries,
        lambda: journal.forget(["a"]),
        lambda: journal.price("k", 5),
        journal.spent,
        journal.prices,
        journal.unpriced,
        journal.flush,
    ):
        journal.record_soon(17, state="queued")
        with pytest.raises(JournalError, match="no attempt 17"):
            await call()
        assert await journal.entries() == before
    assert await journal.spent() == 0


async def test_a_kept_failure_does_not_keep_an_acceptance_from_being_recorded(journal):
    number = await claimed(journal, "a")
    journal.record_soon(17, state="queued")
    await journal.record(number, state="queued", request_id="req_1")
    with pytest.raises(JournalError, match="no attempt 17"):
        await journal.flush()
    assert (await journal.find("a")).request_id == "req_1"


async def test_of_several_kept_failures_the_first_is_raised(journal, caplog):
    journal.record_soon(17, state="queued")
    journal.record_soon(18, state="queued")
    with pytest.raises(JournalError, match="no attempt 17"):
        await journal.flush()
    await journal.flush()
    assert len(caplog.records) == 2


async def test_closing_raises_a_kept_failure_and_closes(new_journal):
    journal = new_journal()
    await journal.open()
    journal.record_soon(17, state="queued")
    with pytest.raises(JournalError, match="no attempt 17"):
        await journal.aclose()
    await journal.aclose()
    with pytest.raises(JournalError, match="closed"):
        await journal.flush()


# --- reading and forgetting ---------------------------------------------------------------------


async def test_an_empty_journal_has_no_entries(journal):
    assert await journal.find("a") is None
    assert await journal.entries() == []


async def test_entries_are_in_the_order_of_creation_even_if_the_clock_goes_back(journal, clock):
    for number, key in enumerate(["c", "a", "b"]):
        clock.now = START - number
        await claimed(journal, key)
    await journal.record((await journal.find("c")).attempt, state="queued")
    assert [entry.key for entry in await journal.entries()] == ["c", "a", "b"]


async def test_forgetting_removes_jobs_and_returns_how_many(journal):
    number = await claimed(journal, "a", "b", "c")
    await journal.record(number, request_id="req_1")
    assert await journal.forget(key for key in ["a", "c", "unknown", "a"]) == 2
    assert await journal.forget([]) == 0
    assert [entry.key for entry in await journal.entries()] == ["b"]


async def test_a_forgotten_key_and_its_request_id_are_free_again(journal):
    number = await claimed(journal, "a", "b")
    await journal.record(number, state="queued", request_id="req_1")
    await journal.forget(["b"])
    await claimed(journal, "c", "b")
    await journal.record((await journal.find("c")).attempt, state="queued", request_id="req_1")
    assert [entry.key for entry in await journal.entries()] == ["a", "c", "b"]


async def test_a_late_word_of_a_forgotten_job_does_no_harm(journal):
    number = await claimed(journal, "a", credits=40)
    await journal.forget(["a"])
    await journal.record(number, state="queued", request_id="req_1", credits_charged=50)
    assert await journal.entries() == []
    assert await journal.spent() == 50


# --- what a person finds out --------------------------------------------------------------------


@pytest.mark.parametrize("found", [None, {"state": "queued", "request_id": "req_1"}])
async def test_what_is_uncertain_is_settled_once(journal, found):
    number = await claimed(journal, "a", credits=40)
    await journal.record(number, state="uncertain")
    assert not await journal.settle("b", number, found)
    assert not await journal.settle("a", number + 1, found)
    assert await journal.settle("a", number, found)
    known = await journal.find("a")
    assert (known and known.request_id) == (found and "req_1")
    assert not await journal.settle("a", number, found)
    assert await journal.find("a") == known
    assert await journal.spent() == 40, "what it may have cost still counts"


@pytest.mark.parametrize("found", [None, {"state": "queued", "request_id": "req_2"}])
@pytest.mark.parametrize("meanwhile", ["accepted", "rejected", "sent again", "bought again"])
async def test_what_has_changed_since_it_was_uncertain_is_left_as_it_is(journal, found, meanwhile):
    number = await claimed(journal, "a")
    await journal.record(number, state="uncertain")
    if meanwhile == "accepted":
        await journal.record(number, state="queued", request_id="req_1")
    elif meanwhile == "rejected":
        number = await journal.claim(intent("a"), after=number)
        await journal.record(number, state="rejected")
    elif meanwhile == "sent again":
        await journal.claim(intent("a"), after=number)
    else:
        await journal.forget(["a"])
        await claimed(journal, "a")
    before = await journal.entries()
    if meanwhile == "rejected":
        number = before[0].attempt - 1
    assert not await journal.settle("a", number, found)
    assert await journal.entries() == before


async def test_a_journal_has_a_secret(journal):
    secret = await journal.secret()
    assert (len(secret), await journal.secret()) == (32, secret)


async def test_text_of_any_kind_is_read_as_it_was_written(journal):
    odd = "'; DROP TABLE jobs; --\0 \r\n\u2028 \U0001f30a ﷺ"
    number = await journal.claim(Intent(odd, odd, odd, kind=odd, origin=odd))
    await journal.record(number, error=odd, request_id=odd, output_url=odd)
    await journal.record_file(odd, path=odd, sha256=odd, size=2**63 - 1)
    found = await journal.find(odd)
    assert {found.key, found.fingerprint, found.request, found.error, found.origin} == {odd}
    assert {found.path, found.request_id, found.sha256, found.output_url} == {odd}
    assert found.size == 2**63 - 1


async def test_the_repr_of_an_entry_does_not_show_the_request(journal):
    await journal.claim(intent("a", request='{"prompt": "secret"}'))
    assert "secret" not in repr(await journal.find("a"))
    assert "secret" not in repr(intent("a", request='{"prompt": "secret"}'))


# --- lifecycle ----------------------------------------------------------------------------------


def every_call(journal):
    yield journal.claim(intent("b"))
    yield journal.adopt(intent("b"), "req_1")
    yield journal.record(1, state="queued")
    yield journal.record_file("a", **FILE)
    yield journal.find("a")
    yield journal.entries()
    yield journal.forget(["a"])
    yield journal.spent()
    yield journal.prices()
    yield journal.unpriced()
    yield journal.price("k", 5)
    yield journal.secret()
    yield journal.flush()


async def assert_refused(journal, reason):
    for call in every_call(journal):
        with pytest.raises(JournalError, match=reason):
            await call
    with pytest.raises(JournalError, match=reason):
        journal.record_soon(1, state="queued")


async def test_every_method_fails_before_the_journal_is_open(new_journal):
    journal = new_journal()
    assert "new" in repr(journal)
    await assert_refused(journal, "new")
    await journal.aclose()
    await assert_refused(journal, "closed")


async def test_after_closing_every_method_fails_but_closing_again(new_journal):
    journal = new_journal()
    await journal.open()
    assert "open" in repr(journal)
    await claimed(journal, "a")
    await asyncio.gather(journal.aclose(), journal.aclose())
    await journal.aclose()
    assert "closed" in repr(journal)
    await assert_refused(journal, "closed")


async def test_a_journal_can_be_opened_only_once(new_journal):
    journal = new_journal()
    await journal.open()
    for _ in range(2):
        with pytest.raises(JournalError, match="can't be opened again"):
            await journal.open()
        await journal.aclose()


def test_every_method_fails_in_another_event_loop(new_journal):
    async def start():
        journal = new_journal()
        await journal.open()
        return journal

    async def use_elsewhere(journal):
        await assert_refused(journal, "belongs to the process and event loop")
        with pytest.raises(JournalError, match="belongs to the process and event loop"):
            await journal.aclose()

    with asyncio.Runner() as home:
        journal = home.run(start())
        with asyncio.Runner() as elsewhere:
            elsewhere.run(use_elsewhere(journal))
        home.run(journal.aclose())


async def test_record_soon_fails_in_a_thread_without_an_event_loop(journal):
    with pytest.raises(JournalError, match="belongs to the process and event loop"):
        await asyncio.to_thread(journal.record_soon, 1, state="queued")


async def test_an_end_of_an_attempt_whose_answer_named_another_id_is_recorded(journal):
    """A callback has told the id of a submit that an earlier run left in doubt."""
    first = await journal.claim(intent("a"))
    await journal.record(first, state="uncertain")
    second = await journal.claim(intent("a"), after=first)
    await journal.record(second, state="uncertain", request_id="req_2")
    await journal.record(second, state="queued", request_id="req_1")
    await journal.record(second, state="succeeded", request_id="req_1")
    found = await journal.find("a")
    assert (found.state, found.request_id) == ("succeeded", "req_1")


async def test_a_job_is_rejected_once_the_older_attempt_in_doubt_came_to_nothing_too(journal):
    first = await journal.claim(intent("a"))
    await journal.record(first, state="uncertain")
    second = await journal.claim(intent("a"), after=first)
    await journal.record(second, state="rejected")
    assert await state_of(journal) == "uncertain"
    third = await journal.claim(intent("a"), after=second)
    await journal.record(third, state="rejected")
    assert await state_of(journal) == "uncertain"


async def test_an_older_attempt_that_was_never_sent_leaves_no_doubt(journal):
    """Its process was stopped before it sent anything, while another one was refused."""
    first = await journal.claim(intent("a"))
    second = await journal.claim(intent("a"), after=first)
    await journal.record(second, state="rejected")
    assert await state_of(journal) == "uncertain"
    await journal.record(first, state="rejected")
    assert await state_of(journal) == "rejected"
