"""Before anything is bought: what it would cost, and whether the user wants that."""

import io
import json
import signal
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.buying.consent import Consent, Limit
from seedance_async.cli.buying.purchase import Purchase
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.session.estimate import Cost

pytestmark = pytest.mark.seedance_emulator(speed=5000, media="shared")


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self):
        return True


@pytest.fixture
def asked(seedance, monkeypatch):
    """Run a command line for somebody who answers."""

    def command(answer, *args):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        return seedance(*args)

    return command


@pytest.fixture(autouse=True)
def _usual_bound(monkeypatch):
    monkeypatch.delenv("SEEDANCE_ASK_ABOVE")


def write(text, name="shots.csv"):
    Path(name).write_text(text)
    return name


SHOTS = "prompt,duration,resolution\n" + "".join(f"shot {n},5,720p\n" for n in range(1, 7))


def test_nothing_dear_is_bought_where_nobody_can_answer(seedance, seedance_emulator):
    done = seedance("batch", write(SHOTS))
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert done.err.splitlines()[:2] == [
        "jobs  credits each  in sum  kind",
        "   6            40     240  seedance-2.0, 5 s, 720p, text",
    ]
    assert "Nothing was bought; 6 jobs would cost about 240 credits. --yes buys" in done.err
    assert not Path("videos").exists()
    done = seedance("batch", "shots.csv", "--yes")
    assert (done.code, len(seedance_emulator.ledger)) == (0, 6)


@pytest.mark.parametrize(("answer", "code", "bought"), [("y\n", 0, 6), ("n\n", 2, 0), ("\n", 2, 0)])
def test_somebody_who_can_answer_is_asked(asked, seedance_emulator, answer, code, bought):
    done = asked(answer, "batch", write(SHOTS))
    assert (done.code, len(seedance_emulator.ledger)) == (code, bought)
    assert "Buy 6 jobs for about 240 credits? [y/N]" in done.err
    assert ("Nothing was bought." in done.err) == (code == 2)


def test_what_is_cheap_or_bought_already_is_not_asked_about(seedance, seedance_emulator):
    few = "".join(SHOTS.splitlines(keepends=True)[:6])
    assert seedance("batch", write(few)).code == 0
    assert seedance("batch", write(SHOTS)).code == 0
    assert seedance("batch", "shots.csv", "--ask-above", "0").code == 0
    assert len(seedance_emulator.ledger) == 6


def test_what_a_request_leaves_to_the_server_counts_as_its_dearest(seedance, seedance_emulator):
    done = seedance("batch", write("A river\n", "prompts.txt"))
    assert done.code == 2
    assert "up to 240  seedance-2.0, text, default length and resolution" in done.err
    assert seedance("batch", "prompts.txt", "--ask-above", "240").code == 0
    more = "".join(f"Fox {n}\n" for n in range(5))
    assert seedance("batch", write(more, "prompts.txt"), "-o", "other").code == 0, "40 each, now"
    assert len(seedance_emulator.ledger) == 6


def test_a_limit_bounds_what_can_be_spent_and_shows_what_is_left(seedance, seedance_emulator):
    assert seedance("batch", write(SHOTS), "--max-credits", "120").code == 4
    assert seedance_emulator.ledger.credits_charged == 120
    more = SHOTS + "".join(f"more {n},5,720p\n" for n in range(5))
    done = seedance("batch", write(more), "--max-credits", "500")
    assert done.code == 2
    assert "Limit: 500 credits, of which 120 are spent: 380 left" in done.err


@pytest.mark.parametrize("by_file", [False, True])
def test_a_small_limit_is_no_consent_to_one_dear_job(seedance, seedance_emulator, by_file):
    """A job whose price was never seen may pass the limit; so may the file of a foreign folder."""
    if by_file:
        Path("seedance.toml").write_text("max-credits = 5\n")
    limit = () if by_file else ("--max-credits", "5")
    done = seedance("batch", write("A river\n", "prompts.txt"), *limit)
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert "Limit: 5 credits, of which 0 are spent: 5 left" in done.err
    assert "1 job would cost at most 240 credits. --yes buys" in done.err
    unasked = ("batch", "prompts.txt", *limit, "--ask-above", "240")
    assert (seedance(*unasked).code, len(seedance_emulator.ledger)) == (0, 1)
    six = ("batch", write(SHOTS), "-o", "other", *limit, "--ask-above", "44")
    assert "6 jobs would cost about 240 credits" in seedance(*six).err, "one passes the limit"
    assert "raise --max-credits" in seedance(*six[:-1], "45").err


def test_a_limit_with_an_unknown_price_is_no_consent(seedance, seedance_emulator):
    done = seedance("batch", write("prompt,model\na,next-model\n"), "--max-credits", "20")
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)


def test_a_price_that_nobody_tells_is_said_to_be_unknown(seedance, seedance_emulator):
    done = seedance("batch", write("prompt,model\na,next-model\n"))
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert "   1       unknown  unknown  next-model, text" in done.err
    assert "1 job would cost an unknown number of credits. --yes" in done.err


def test_columns_that_are_not_sent_are_named_before_anything_is_bought(seedance, seedance_emulator):
    write("prompt,fps,Scene\na,24,1\n")
    named = "columns for results and names, not sent: fps, Scene"
    assert named in seedance("batch", "shots.csv").err
    assert named in seedance("batch", "shots.csv", "--dry-run").out


def test_a_price_of_another_folder_is_known(seedance, seedance_emulator, monkeypatch):
    assert seedance("batch", write("A river\n", "prompts.txt"), "-o", "one", "--yes").code == 0
    assert seedance("batch", write("A fox\n", "prompts.txt"), "-o", "two").code == 0
    dry = ("batch", write("A boat\n", "prompts.txt"), "-o", "three", "--dry-run")
    assert "line 1: 40 (" in seedance(*dry).out
    monkeypatch.setenv("SEEDANCE_BASE_URL", "http://127.0.0.1:9")
    assert "line 1: unknown (" in seedance(*dry).out, "that is another server"


def test_a_server_that_is_down_is_said_to_be(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_of_a_test")
    done = seedance("batch", write(SHOTS))
    assert done.code == 2
    assert "the server could not be asked for its prices: " in done.err
    assert "127.0.0.1:9" in done.err


def test_a_wrong_key_is_one_message(seedance, seedance_emulator, monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_of_nobody")
    done = seedance("batch", write(SHOTS))
    assert done.code == 4
    assert len(done.err.splitlines()) == 1


def test_generate_asks_likewise(seedance, asked, seedance_emulator):
    dear = ("generate", "A river", "--duration", "15", "--resolution", "1080p", "-o", "a.mp4")
    assert seedance(*dear).code == 2
    assert asked("n\n", *dear).code == 2
    assert len(seedance_emulator.ledger) == 0
    assert asked("y\n", *dear).code == 0
    assert seedance("generate", "A fox", "--duration", "5", "--resolution", "720p").code == 0
    assert len(seedance_emulator.ledger) == 2


def test_a_dry_run_has_the_cost_of_each_line_as_json(seedance, seedance_emulator):
    text = "prompt,duration,resolution\na,5,720p\nb,,\n"
    done = seedance("batch", write(text), "--dry-run", "--json")
    assert done.records == [
        {"line": 1, "take": 1, "prompt": "a", "credits": 40, "is_ceiling": False},
        {"line": 2, "take": 1, "prompt": "b", "credits": 240, "is_ceiling": True},
    ]
    assert len(seedance_emulator.ledger) == 0


# --- the same prompts with other options ----------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--resolution", "1080p"), "resolution was 480p, is 1080p (2 lines)"),
        ((), "resolution was 480p, is not given (2 lines)"),
    ],
)
def test_the_same_prompts_with_other_options_are_not_bought_by_accident(
    seedance, asked, seedance_emulator, options, change
):
    write("A river\nA fox\n", "prompts.txt")
    first = ("batch", "prompts.txt", "--ask-above", "1000", "--resolution", "480p")
    again = ("batch", "prompts.txt", "--yes", *options)
    assert seedance(*first).code == 0
    done = seedance(*again)
    assert (done.code, len(seedance_emulator.ledger)) == (2, 2)
    assert "2 new jobs would be bought for prompts that were bought before" in done.err
    assert change in done.err
    assert "Nothing was bought; --leave-unmatched buys" in done.err
    assert asked("n\n", *again).code == 2
    assert seedance(*first).code == 0, "the same command resumes"
    assert len(seedance_emulator.ledger) == 2
    assert asked("y\n", *again).code == 0
    assert len(seedance_emulator.ledger) == 4
    assert seedance(*again).code == 0, "these are bought, too"
    assert seedance(*first).code == 0
    assert len(seedance_emulator.ledger) == 4


def test_an_edited_prompt_or_one_that_failed_needs_no_question(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", "failed", match="fox")
    assert seedance("batch", write("A river\nA fox\n", "prompts.txt"), "--yes").code == 1
    text = '{"prompt": "A wide river"}\n{"prompt": "A fox", "duration": 4}\n'
    assert seedance("batch", write(text, "a.jsonl"), "--yes").code == 0
    assert len(seedance_emulator.ledger) == 4


def test_a_new_key_is_meant_to_be_a_new_job(seedance, seedance_emulator):
    for key in ("shot 1", "shot 1b"):
        assert seedance("batch", write(f"key,prompt\n{key},A river\n"), "--yes").code == 0
    assert len(seedance_emulator.ledger) == 2


# --- the pieces -----------------------------------------------------------------------------------

COSTS = st.lists(st.builds(Cost, st.none() | st.integers(0, 300), st.booleans()), max_size=5)


def test_several_kinds_are_summed_up():
    lines = [Line(n, GenerationRequest("a", duration=4 + n)) for n in range(3)]
    priced = Purchase(lines, [Cost(40), Cost(1200, is_ceiling=True), Cost(None)])
    assert [row.split("  ")[-1] for row in priced.table()][-1] == "in all"
    assert list(priced.table())[-1] == "   3                up to 1,240 + unknown  in all"
    assert priced.total() == "at most 1,240 credits, and 1 job of unknown cost"


def test_a_thousand_kinds_are_not_shown_one_by_one():
    lines = [Line(n, GenerationRequest("a", extra={"seed": n})) for n in range(1000)]
    rows = list(Purchase(lines, [Cost(40)] * 1000).table())
    assert len(rows) == 23
    assert rows[-2].endswith("and 980 other kinds")
    assert "40,000" in rows[-1]


@given(
    COSTS,
    st.integers(0, 500),
    st.none() | st.tuples(st.integers(0, 900), st.integers(0, 900)),
    st.sets(st.integers(0, 4)),
)
def test_what_is_bought_unasked_cannot_cost_more_than_was_agreed_to(costs, bound, limit, charged):
    lines = [Line(n, GenerationRequest("a", duration=n)) for n, _ in enumerate(costs)]
    purchase = Purchase(
        lines, costs, charged={line.request.kind for line in lines if line.number in charged}
    )
    limit = limit and Limit(*limit)
    left = limit.left if limit else float("inf")
    if Consent(bound, yes=False).covers(purchase, limit) and costs:
        spent = 0
        for number, cost in enumerate(costs):
            price = float("inf") if cost.credits is None else cost.credits
            if spent + (price if number in charged else 1) <= left:
                spent += price
        assert spent <= bound
    assert Consent(bound, yes=True).covers(purchase, limit)


async def test_ctrl_c_ends_the_wait_for_an_answer(monkeypatch):
    """In a running loop, which would only cancel the task that waits."""
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr(click, "confirm", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        agrees("Buy?", "--yes", Screen())
    assert signal.getsignal(signal.SIGINT) is before


# --- the same lines with a key --------------------------------------------------------------------


def keyed(*rows):
    return write("".join(f"{row}\n" for row in ("key,prompt,duration", *rows)))


def bought_keys():
    rows = Path("videos/lines.jsonl").read_text().splitlines()
    return [json.loads(row)["key"] for row in rows]


@pytest.mark.parametrize("takes", [(), ("--takes", "2")])
def test_lines_that_were_bought_without_a_key_are_not_bought_again_by_accident(
    seedance, asked, seedance_emulator, takes
):
    batch = ("batch", keyed(",A river,4", ",A fox,4", ",A fox,4"), "--yes", *takes)
    assert seedance(*batch).code == 0
    count, charged = len(seedance_emulator.ledger), seedance_emulator.ledger.credits_charged
    keys = bought_keys()
    keyed("k1,A river,4", "k2,A fox,4", "k3,A fox,4", "k4,A boat,4")
    done, dry = seedance(*batch), seedance(*batch, "--dry-run")
    assert (done.code, dry.code, len(seedance_emulator.ledger)) == (2, 0, count)
    for text in (done.err, dry.out):
        again = f"{count} jobs bought before the line had a key would be bought again under one"
        assert f"{again}, for {charged} credits:" in text
        assert f"line 1, key k1: succeeded as {keys[0]} “A river”" in text
        assert "Leave these keys out" in text
    assert "Nothing was bought; --leave-unmatched buys" in done.err
    assert asked("n\n", *batch).code == 2
    keyed(",A river,4", ",A fox,4", ",A fox,4")
    assert seedance(*batch).code == 0, "without the keys, they are what was bought"
    keyed(f"{keys[0]},A river,4", f"{keys[1]},A fox,4", f"{keys[2]},A fox,5")
    assert seedance(*batch).code == 0, "with the keys that they have, too"
    assert len(seedance_emulator.ledger) == count
    keyed("k1,A river,4", "k2,A fox,4", "k3,A fox,4")
    assert seedance(*batch, "--leave-unmatched").code == 0
    assert len(seedance_emulator.ledger) == 2 * count
    assert seedance(*batch).code == 0, "these are bought, too"
    assert len(seedance_emulator.ledger) == 2 * count


def test_jobs_that_run_are_not_bought_again_under_a_key(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", "stuck")
    assert seedance("batch", keyed(",A river,4"), "--timeout", "0.2").code == 5
    done = seedance("batch", keyed("k1,A river,4"))
    assert (done.code, len(seedance_emulator.ledger)) == (2, 1)
    assert f"line 1, key k1: abandoned as {bought_keys()[0]} “A river”" in done.err
    assert "of earlier runs may be running" not in done.err, "it is told once"


def test_media_that_are_signed_anew_when_the_key_is_given_are_no_other_video(
    seedance, seedance_emulator
):
    line = {"prompt": "A river", "mediaUrls": ["https://media.example/a.jpg?s=monday"]}
    assert seedance("batch", write(json.dumps(line), "shots.jsonl"), "--yes").code == 0
    again = {"key": "k1", **line, "mediaUrls": ["https://media.example/a.jpg?s=tuesday"]}
    done = seedance("batch", write(json.dumps(again), "shots.jsonl"), "--yes")
    assert (done.code, len(seedance_emulator.ledger)) == (2, 1)
    other = {**again, "mediaUrls": ["https://media.example/b.jpg?s=monday"]}
    assert seedance("batch", write(json.dumps(other), "shots.jsonl"), "--yes").code == 0


def test_a_new_key_for_another_video_needs_no_consent(seedance, seedance_emulator):
    for row in ("k1,A river,4", "k2,A river,4", "k3,A river,5"):
        assert seedance("batch", keyed(row, ",A fox,4"), "--yes").code == 0
    assert len(seedance_emulator.ledger) == 4


def test_two_lines_with_one_key_are_refused_though_one_gives_none(seedance, seedance_emulator):
    assert seedance("batch", keyed(",A fox,4")).code == 0
    done = seedance("batch", keyed(",A fox,4", f"{bought_keys()[0]},A fox,4"))
    assert (done.code, len(seedance_emulator.ledger)) == (2, 1)
    assert "lines 1 and 2 both have the key" in done.err
