"""What every journal does, wherever it keeps its entries."""

import asyncio
import logging

import attrs
import pytest

from seedance_async import JobState, JournalError
from seedance_async.journal import JournalEntry
from tests.journal.conftest import PLAIN, START

#: On disk. A journal that one version wrote must be readable by the next: these never change.
RECORDED_STATES = {
    "submitting", "queued", "processing", "succeeded", "failed", "cancelled", "rejected",
    "uncertain", "abandoned",
}  # fmt: skip
ALL = {
    "state": "succeeded",
    "request_id": "req_1",
    "credits_charged": 40,
    "credits_reserved": 44,
    "credits_doubtful": 45,
    "error": "some message",
    "path": "out/a.mp4",
    "size": 123,
    "sha256": "a" * 64,
}


async def claimed(journal, *keys):
    for key in keys:
        assert await journal.claim(key, **PLAIN) is None


# --- claiming -----------------------------------------------------------------------------------


async def test_a_free_key_is_claimed_and_the_intent_recorded(journal):
    mine = await journal.claim("a", fingerprint="f1", request='{"x":1}', credits_reserved=7)
    assert mine is None
    assert await journal.find("a") == JournalEntry(
        key="a",
        fingerprint="f1",
        request='{"x":1}',
        state="submitting",
        credits_reserved=7,
        created_at=START,
        updated_at=START,
    )


async def test_claiming_a_taken_key_returns_its_entry_and_changes_nothing(journal, clock):
    await journal.claim("a", fingerprint="f1", request="1", credits_reserved=7)
    await journal.update("a", state="queued", request_id="req_1")
    before = await journal.find("a")
    clock.now += 5
    assert await journal.claim("a", fingerprint="f2", request="2", credits_reserved=8) == before
    assert await journal.entries() == [before]


async def test_of_many_claims_of_one_key_at_once_one_succeeds(journal):
    results = await asyncio.gather(*(journal.claim("a", **PLAIN) for _ in range(50)))
    assert results.count(None) == 1


async def test_keys_differ_by_case_and_by_trailing_characters(journal):
    await claimed(journal, "a", "A", "a ", "a\0", "ä", "a\u0308")
    assert len(await journal.entries()) == 6


# --- reclaiming ---------------------------------------------------------------------------------


async def test_a_job_that_may_be_submitted_again_becomes_an_intent_again(journal, clock):
    await claimed(journal, "a")
    for state in ("rejected", "uncertain", "submitting"):
        await journal.update("a", **ALL | {"state": state})
        clock.now += 5
        credits = {"credits_reserved": 9, "credits_doubtful": 7}
        assert await journal.reclaim("a", expected=state, **credits)
        intent = JournalEntry("a", **PLAIN, **credits, created_at=START, updated_at=clock.now)
        assert await journal.find("a") == intent


async def test_the_request_id_of_a_reclaimed_job_is_free_again(journal):
    await claimed(journal, "a", "b")
    await journal.update("a", state="uncertain", request_id="req_1")
    await journal.reclaim("a", expected="uncertain")
    await journal.update("b", request_id="req_1")
    assert (await journal.find("b")).request_id == "req_1"


async def test_a_job_in_another_state_is_not_reclaimed_and_not_changed(journal):
    await claimed(journal, "a")
    await journal.update("a", state="queued", request_id="req_1")
    before = await journal.find("a")
    assert not await journal.reclaim("a", expected="uncertain")
    assert not await journal.reclaim("unknown", expected="uncertain")
    assert await journal.entries() == [before]


async def test_of_many_reclaims_of_one_job_at_once_one_succeeds(journal):
    await claimed(journal, "a")
    await journal.update("a", state="uncertain")
    reclaims = (journal.reclaim("a", expected="uncertain") for _ in range(50))
    assert (await asyncio.gather(*reclaims)).count(True) == 1


async def test_a_job_that_the_server_accepted_can_never_be_reclaimed(journal):
    await claimed(journal, "a")
    for state in RECORDED_STATES - {"rejected", "uncertain", "submitting"}:
        await journal.update("a", state=state)
        with pytest.raises(JournalError, match="expected must be one of"):
            await journal.reclaim("a", expected=state)
        assert (await journal.find("a")).state == state


# --- updating -----------------------------------------------------------------------------------


async def test_a_change_sets_its_field_and_no_other(journal, clock):
    await claimed(journal, "a", "b")
    expected, other = await journal.entries()
    for name, value in ALL.items():
        clock.now += 5
        await journal.update("a", **{name: value})
        expected = attrs.evolve(expected, **{name: value}, updated_at=clock.now)
        assert await journal.entries() == [expected, other]


async def test_none_clears_a_value(journal):
    await claimed(journal, "a")
    await journal.update("a", **ALL)
    expected = await journal.find("a")
    for name in sorted(ALL.keys() - {"state"}):
        await journal.update("a", **{name: None})
        expected = attrs.evolve(expected, **{name: None})
        assert await journal.find("a") == expected


async def test_every_state_but_pending_can_be_recorded(journal):
    assert {str(state) for state in JobState} - {"pending"} == RECORDED_STATES
    await claimed(journal, "a")
    for state in set(JobState) - {JobState.PENDING}:
        await journal.update("a", state=state)
        found = (await journal.find("a")).state
        assert (found, type(found)) == (state.value, str)


async def test_an_unknown_key_cannot_be_updated(journal):
    with pytest.raises(JournalError, match="'nobody'") as caught:
        await journal.update("nobody", state="queued", request_id="req_1")
    assert caught.value.request_id == "req_1"
    assert await journal.entries() == []


async def test_the_request_id_of_another_job_is_refused_and_nothing_changed(journal):
    await claimed(journal, "a", "b")
    await journal.update("a", state="queued", request_id="req_1")
    before = await journal.entries()
    with pytest.raises(JournalError, match="'req_1' is that of the entry with key 'a'") as caught:
        await journal.update("b", state="queued", request_id="req_1")
    assert caught.value.request_id == "req_1"
    assert await journal.entries() == before


async def test_a_job_may_be_given_its_own_request_id_again(journal):
    await claimed(journal, "a")
    await journal.update("a", request_id="req_1")
    await journal.update("a", request_id="req_1", state="queued")
    await journal.update("a", request_id="req_2")
    await claimed(journal, "b")
    await journal.update("b", request_id="req_1")  # free again
    assert [entry.request_id for entry in await journal.entries()] == ["req_2", "req_1"]


async def test_a_field_that_cannot_change_is_a_type_error(journal):
    await claimed(journal, "a")
    for name in ("key", "fingerprint", "request", "created_at", "output_url"):
        with pytest.raises(TypeError, match=name):
            await journal.update("a", **{name: "x"})
        with pytest.raises(TypeError, match=name):
            journal.update_soon("a", **{name: "x"})


BAD = [
    ("state", "pending"),
    ("state", "Queued"),
    ("state", None),
    ("state", 5),
    ("request_id", "\ud800"),
    ("request_id", b"req"),
    ("error", "tail \udfff"),
    ("path", 1),
    ("sha256", 1.5),
    ("size", -1),
    ("size", 2**63),
    ("size", 1.0),
    ("credits_charged", True),
    ("credits_charged", "4"),
    ("credits_reserved", -4),
]


async def test_a_value_that_cannot_be_recorded_is_refused_and_its_field_named(journal):
    await claimed(journal, "a")
    before = await journal.entries()
    for name, value in BAD:
        with pytest.raises(JournalError, match=f": {name} "):
            await journal.update("a", **{name: value})
        assert await journal.entries() == before


async def test_the_request_id_is_in_the_error_even_if_another_field_is_wrong(journal):
    await claimed(journal, "a")
    with pytest.raises(JournalError, match="error holds") as caught:
        await journal.update("a", request_id="req_1", error="\ud800")
    assert caught.value.request_id == "req_1"


BAD_INTENTS = [
    ("key", "\ud800"),
    ("key", None),
    ("fingerprint", "\ud800"),
    ("request", "\ud800"),
    ("request", None),
    ("credits_reserved", -1),
]


async def test_an_intent_that_cannot_be_recorded_is_refused_and_its_field_named(journal):
    for name, value in BAD_INTENTS:
        values = {"key": "a", **PLAIN} | {name: value}
        with pytest.raises(JournalError, match=f": {name} "):
            await journal.claim(values.pop("key"), **values)
    assert await journal.entries() == []


async def test_a_key_that_cannot_be_recorded_is_refused_by_every_method(journal):
    for call in (
        journal.find("\ud800"),
        journal.update("\ud800", state="queued"),
        journal.reclaim("\ud800", expected="uncertain"),
        journal.forget(["\ud800"]),
    ):
        with pytest.raises(JournalError, match="key holds a lone surrogate"):
            await call


# --- updating soon ------------------------------------------------------------------------------


async def test_an_update_soon_is_seen_by_later_reads(journal):
    await claimed(journal, "a")
    journal.update_soon("a", state="queued", request_id="req_1")
    journal.update_soon("a", state="processing")
    assert (await journal.find("a")).state == "processing"
    journal.update_soon("a", state="succeeded")
    assert [entry.state for entry in await journal.entries()] == ["succeeded"]


async def test_updates_take_effect_in_the_order_of_the_calls(journal):
    await claimed(journal, "a")
    journal.update_soon("a", error="1", size=1)
    await journal.update("a", error="2")
    journal.update_soon("a", error="3")
    await journal.flush()
    found = await journal.find("a")
    assert (found.error, found.size) == ("3", 1)


async def test_an_update_soon_that_fails_is_logged_and_raised_once(journal, caplog):
    await claimed(journal, "a")
    bad = [("nobody", {"state": "queued"}), ("a", {"error": "\ud800"}), ("\ud800", {})]
    for size, (key, changes) in enumerate(bad):
        caplog.clear()
        journal.update_soon(key, **changes)
        journal.update_soon("a", size=size)  # not affected by the failure
        with pytest.raises(JournalError):
            await journal.flush()
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        await journal.flush()
        assert (await journal.find("a")).size == size


async def test_a_kept_failure_is_raised_by_the_next_call_which_does_nothing_else(journal):
    await claimed(journal, "a")
    await journal.update("a", state="uncertain")
    before = await journal.entries()
    for call in (
        lambda: journal.claim("b", **PLAIN),
        lambda: journal.reclaim("a", expected="uncertain"),
        lambda: journal.find("a"),
        journal.entries,
        lambda: journal.forget(["a"]),
        journal.flush,
    ):
        journal.update_soon("nobody", state="queued")
        with pytest.raises(JournalError, match="'nobody'"):
            await call()
        assert await journal.entries() == before


async def test_a_kept_failure_does_not_keep_an_acceptance_from_being_recorded(journal):
    await claimed(journal, "a")
    journal.update_soon("nobody", state="queued")
    await journal.update("a", state="queued", request_id="req_1")
    with pytest.raises(JournalError, match="'nobody'"):
        await journal.flush()
    assert (await journal.find("a")).request_id == "req_1"


async def test_of_several_kept_failures_the_first_is_raised(journal, caplog):
    journal.update_soon("first", state="queued")
    journal.update_soon("second", state="queued")
    with pytest.raises(JournalError, match="'first'"):
        await journal.flush()
    await journal.flush()
    assert len(caplog.records) == 2


async def test_closing_raises_a_kept_failure_and_closes(new_journal):
    journal = new_journal()
    await journal.open()
    journal.update_soon("nobody", state="queued")
    with pytest.raises(JournalError, match="'nobody'"):
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
    await journal.update("c", state="queued")
    assert [entry.key for entry in await journal.entries()] == ["c", "a", "b"]


async def test_forgetting_removes_entries_and_returns_how_many(journal):
    await claimed(journal, "a", "b", "c")
    await journal.update("a", request_id="req_1")
    assert await journal.forget(key for key in ["a", "c", "unknown", "a"]) == 2
    assert await journal.forget([]) == 0
    assert [entry.key for entry in await journal.entries()] == ["b"]


async def test_a_forgotten_key_and_its_request_id_are_free_again(journal):
    await claimed(journal, "a", "b")
    await journal.update("b", request_id="req_1")
    await journal.forget(["b"])
    await claimed(journal, "c", "b")
    await journal.update("c", request_id="req_1")
    assert [entry.key for entry in await journal.entries()] == ["a", "c", "b"]


async def test_a_journal_has_a_secret(journal):
    secret = await journal.secret()
    assert (len(secret), await journal.secret()) == (32, secret)


async def test_text_of_any_kind_is_read_as_it_was_written(journal):
    odd = "'; DROP TABLE jobs; --\0 \r\n\u2028 \U0001f30a ﷺ"
    await journal.claim(odd, fingerprint=odd, request=odd)
    await journal.update(odd, error=odd, path=odd, request_id=odd, sha256=odd, size=2**63 - 1)
    found = await journal.find(odd)
    assert {found.key, found.fingerprint, found.request, found.error} == {odd}
    assert {found.path, found.request_id, found.sha256} == {odd}
    assert found.size == 2**63 - 1


async def test_the_repr_of_an_entry_does_not_show_the_request(journal):
    await journal.claim("a", fingerprint="f", request='{"prompt": "secret"}')
    assert "secret" not in repr(await journal.find("a"))


# --- lifecycle ----------------------------------------------------------------------------------


def every_call(journal):
    yield journal.claim("b", **PLAIN)
    yield journal.reclaim("a", expected="uncertain")
    yield journal.update("a", state="queued")
    yield journal.find("a")
    yield journal.entries()
    yield journal.forget(["a"])
    yield journal.secret()
    yield journal.flush()


async def assert_refused(journal, reason):
    for call in every_call(journal):
        with pytest.raises(JournalError, match=reason):
            await call
    with pytest.raises(JournalError, match=reason):
        journal.update_soon("a", state="queued")


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


async def test_update_soon_fails_in_a_thread_without_an_event_loop(journal):
    with pytest.raises(JournalError, match="belongs to the process and event loop"):
        await asyncio.to_thread(journal.update_soon, "a", state="queued")
