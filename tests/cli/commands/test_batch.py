"""`seedance batch`, against a real emulator."""

import errno
import json
from pathlib import Path

import pytest

from seedance_async.cli.runs.results import ResultsFile
from seedance_async.emulator import Fault
from tests.cli.conftest import results
from tests.support.for_each import for_each

THREE = "A river\nA fox\nA boat\n"


def write(text, name="prompts.txt"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_file_of_prompts_becomes_a_folder_of_videos(seedance, seedance_emulator):
    done = seedance("batch", write("# mine\nA river\n\nA fox\n"), "-o", "out")
    assert (done.code, done.out) == (0, "")
    found = results("out")
    assert sorted(found) == [2, 4]
    for number, record in found.items():
        name = f"{number:04d}-{record['request_id']}.mp4"
        assert record["file"] == str(Path("out") / name)
        assert Path(record["file"]).stat().st_size > 1000
        assert record["state"] == "succeeded"
        assert record["credits_charged"] > 0
        assert record["error"] is record["next_step"] is None
    assert "2 lines of prompts.txt in " in done.err
    assert "2 succeeded, 2 videos saved" in done.err
    assert f"{seedance_emulator.ledger.credits_charged} credits charged" in done.err
    assert "Results: out/results.jsonl" in done.err
    assert sorted({path.suffix for path in Path("out").iterdir()}) == [
        ".db", ".jpg", ".json", ".jsonl", ".lock", ".mp4",
    ]  # fmt: skip
    assert not Path("out/remaining.jsonl").exists()


def test_json_outcomes_are_the_lines_of_the_results(seedance, seedance_emulator):
    done = seedance("batch", write(THREE), "--json")
    assert {record["line"]: record for record in done.records} == results()


def test_rows_of_a_table_are_numbered_from_one_in_messages_results_and_names(
    seedance, seedance_emulator
):
    bad = seedance("batch", write("prompt,duration\na,99\n", "a.csv"))
    assert "a.csv, line 1 (row 2): duration: 99 must be" in bad.err
    assert "1 bad line; nothing was sent" in bad.err
    seedance_emulator.faults.script("job", "failed")
    done = seedance("batch", write("prompt\na\n", "a.csv"))
    assert list(results()) == [1]
    assert "1 line of a.csv failed, 40 credits charged:\n  line 1 req_" in done.err


@for_each(
    ("given", "why"),
    [
        (("Text",), "'Text' is not of the form"),
        (("=prompt",), "'=prompt' is not of the form"),
        (("A b=prompt", "a_B=model"), "'a_B' is given twice"),
        (("Nothing=prompt",), "--map: 'Nothing' is no name in the file, which has 'prompt'"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(seedance, given, why):
    done = seedance(
        "batch", write("prompt\na\n", "a.csv"), "--dry-run", *(f"--map={each}" for each in given)
    )
    assert done.code == 2
    assert why in done.err


def test_other_columns_are_in_the_results_and_in_what_remains(seedance, seedance_emulator):
    write("prompt,Scene,note\na,3,\nb,4,late\n", "a.csv")
    seedance_emulator.faults.script("submit", "unauthorized", match="b", times=None)
    done = seedance("batch", "a.csv", "--no-journal")
    found = {number: record["columns"] for number, record in results().items()}
    assert found == {1: {"Scene": "3", "note": ""}, 2: {"Scene": "4", "note": "late"}}
    assert done.code == 4
    (left,) = Path("videos/remaining.jsonl").read_text().splitlines()
    assert json.loads(left).items() >= {"prompt": "b", "Scene": "4", "note": "late"}.items()


def test_standard_input_is_read_as_the_format_says(seedance, seedance_emulator):
    assert seedance("batch", "-", stdin=b"A river\n").code == 0
    text = b'{"prompt": "A fox", "duration": 4}\n'
    assert seedance("batch", "-", "--format", "jsonl", "-o", "two", stdin=text).code == 0
    assert [job.body.get("duration") for job in seedance_emulator.jobs.values()] == [None, 4]


def test_options_are_defaults_that_a_line_overrides(seedance, seedance_emulator):
    write("prompt,duration\na,\nb,8\n", "a.csv")
    options = ("--model", "seedance-2.0-fast", "--duration", "5", "--aspect-ratio", "1:1")
    assert seedance("batch", "a.csv", *options, "--resolution", "480p").code == 0
    bodies = {entry.prompt: entry.body for entry in seedance_emulator.ledger}
    assert (bodies["a"]["duration"], bodies["b"]["duration"]) == (5, 8)
    assert {body["model"] for body in bodies.values()} == {"seedance-2.0-fast"}
    assert {body["resolution"] for body in bodies.values()} == {"480p"}


def test_one_bad_line_and_nothing_is_sent(seedance, seedance_emulator):
    write('{"prompt": "good"}\n{"prompt": "", "duration": 1}\nnonsense\n', "a.jsonl")
    done = seedance("batch", "a.jsonl")
    assert (done.code, done.out) == (2, "")
    assert "a.jsonl, line 2: prompt: '' must not be blank; duration: 1 must be" in done.err
    assert "a.jsonl, line 3: line: 'nonsense' must be a JSON object" in done.err
    assert "2 bad lines; nothing was sent" in done.err
    assert len(seedance_emulator.ledger) == 0
    assert not Path("videos").exists()


def test_a_thousand_bad_lines_are_not_shown_one_by_one(seedance, seedance_emulator):
    done = seedance("batch", write("x\n" * 1000, "a.jsonl"))
    assert "… and 900 more bad lines" in done.err
    assert len(done.err.splitlines()) == 102


def test_a_dry_run_checks_and_sends_nothing_and_needs_no_key(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_BASE_URL", "http://127.0.0.1:9")
    done = seedance("batch", write(THREE), "--dry-run")
    assert (done.code, done.err) == (0, "")
    first, second, line, *_ = done.out.splitlines()
    assert first == "3 jobs would be submitted; nothing was sent"
    assert second == (
        "cost unknown for 3 jobs: nothing like these was charged yet, and without "
        "SEEDANCE_API_KEY, the server cannot be asked for its prices"
    )
    assert line == "  line 1: unknown (seedance-2.0, text, default length and resolution) “A river”"
    assert not Path("videos").exists()
    done = seedance("batch", write(" \n"), "--dry-run")
    assert done.code == 2
    assert "prompts.txt has no requests" in done.err


def test_a_file_that_is_not_there_is_bad_input(seedance, seedance_emulator):
    done = seedance("batch", "missing.txt")
    assert done.code == 2
    assert "missing.txt cannot be read" in done.err


def test_without_a_journal_earlier_results_are_not_paid_for_again_by_accident(
    seedance, seedance_emulator
):
    assert seedance("batch", write("A river\n"), "--no-journal").code == 0
    first = Path("videos/results.jsonl").read_text()
    done = seedance("batch", "prompts.txt", "--no-journal")
    assert done.code == 2
    assert "videos/results.jsonl exists" in done.err
    assert len(seedance_emulator.ledger) == 1
    done = seedance("batch", "prompts.txt", "--no-journal", "--overwrite")
    assert done.code == 0
    assert "is now videos/results.1.jsonl" in done.err
    assert Path("videos/results.1.jsonl").read_text() == first
    assert len(seedance_emulator.ledger.charged) == 2
    assert seedance("batch", "prompts.txt", "--no-journal", "--overwrite").code == 0
    assert Path("videos/results.1.jsonl").read_text() == first
    assert Path("videos/results.2.jsonl").exists()


def test_a_folder_that_cannot_be_made_costs_nothing(seedance, seedance_emulator):
    Path("file").write_text("no folder")
    done = seedance("batch", write(THREE), "-o", "file/out")
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert "file/out cannot be written" in done.err


def test_each_outcome_is_reported_for_what_it_is_and_uncertain_outranks_the_rest(
    seedance, seedance_emulator
):
    faults = seedance_emulator.faults
    faults.script("submit", "drop_after_accept", match="lost")
    faults.script("job", "failed", match="failing")
    faults.script("job", "cancelled", match="dropped")
    faults.script("media", "gone", match="unsaved", times=None)
    faults.script("job", "stuck", match="stuck")
    prompts = "good\nlost\nfailing\ndropped\nunsaved\nstuck\n"
    done = seedance("batch", write(prompts), "--timeout", "1", "--no-journal")
    assert done.code == 5
    found = results()
    states = {record["prompt"]: record["state"] for record in found.values()}
    assert states == {
        "good": "succeeded",
        "lost": "uncertain",
        "failing": "failed",
        "dropped": "cancelled",
        "unsaved": "succeeded",
        "stuck": "abandoned",
    }
    errors = {r["prompt"]: r["error"] and r["error"]["type"] for r in found.values()}
    assert errors == {
        "good": None,
        "lost": "SubmitUncertainError",
        "failing": "GenerationFailedError",
        "dropped": "GenerationCancelledError",
        "unsaved": "DownloadError",
        "stuck": "JobTimeoutError",
    }
    unsaved, stuck = found[5], found[6]
    assert unsaved["file"] is None
    assert unsaved["next_step"] == f"seedance status -o videos {unsaved['request_id']}"
    assert stuck["next_step"] == f"seedance status --wait -o videos {stuck['request_id']}"
    assert "1 uncertain submit may have been charged as well" in done.err
    assert "1 submit uncertain: perhaps accepted and charged. It was not sent again." in done.err
    assert f"To download again: {unsaved['next_step']}" in done.err
    assert f"To resume: {stuck['next_step']}" in done.err
    assert "1 line of prompts.txt failed, 40 credits charged:" in done.err
    assert "1 line of prompts.txt cancelled:" in done.err
    assert not Path("videos/remaining.jsonl").exists()  # each may have been charged
    assert seedance_emulator.ledger.duplicates() == {}


def test_a_failed_download_outranks_a_failed_job(seedance, seedance_emulator):
    seedance_emulator.faults.script("media", "gone", match="river", times=None)
    seedance_emulator.faults.script("job", "failed", match="fox")
    assert seedance("batch", write(THREE)).code == 6


def test_when_the_credits_run_out_the_rest_is_left_to_be_submitted_later(
    seedance, seedance_emulator
):
    account = seedance_emulator.accounts.by_header("Bearer sd2_live_emulator")
    account.balance = 100
    prompts = "".join(f"prompt {number}\n" for number in range(30))
    done = seedance("batch", write(prompts), "--max-in-flight", "2", "--no-journal")
    assert done.code == 4
    found = results()
    assert len(found) == 30
    paid = {r["prompt"] for r in found.values() if r["state"] == "succeeded"}
    assert paid == set(seedance_emulator.ledger.charged_prompts())
    remaining = [
        json.loads(line) for line in Path("videos/remaining.jsonl").read_text().splitlines()
    ]
    assert {request["prompt"] for request in remaining} | paid == set(prompts.split("\n")) - {""}
    assert len(remaining) + len(paid) == 30
    assert "28 lines of prompts.txt rejected or not submitted, nothing charged:" in done.err
    assert done.err.count("  lines 3-30: HTTP 402 insufficient_credits: 40 credits needed, 20") == 1
    assert "    What to do: add credits to the account, and run again" in done.err
    assert "Lines that can be submitted again as they are: videos/remaining.jsonl" in done.err
    account.balance = 10_000
    assert seedance("batch", "videos/remaining.jsonl", "-o", "rest").code == 0
    assert seedance_emulator.ledger.duplicates() == {}


def test_a_refusal_of_one_prompt_stops_nothing_and_is_not_left_for_later(
    seedance, seedance_emulator, monkeypatch
):
    write('{"prompt": "good"}\n{"prompt": "bad", "model": "nobody-knows-it"}\n', "a.jsonl")
    done = seedance("batch", "a.jsonl", "--yes")
    assert done.code == 1
    assert results()[2]["error"]["type"] == "BadRequestError"
    assert "1 line of a.jsonl rejected, nothing charged:" in done.err
    assert not Path("videos/remaining.jsonl").exists()


def test_results_are_written_as_they_happen_and_flushed(seedance, seedance_emulator, monkeypatch):
    seen, write_one = [], ResultsFile.write

    def spy(self, outcome):
        write_one(self, outcome)
        seen.append(len(self.path.read_text().splitlines()))

    monkeypatch.setattr(ResultsFile, "write", spy)
    assert seedance("batch", write(THREE)).code == 0
    assert seen == [1, 2, 3]


class FullDisk:
    """A file that takes some lines and then no more."""

    def __init__(self, file, lines):
        self._file, self._left = file, lines

    def write(self, text):
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._file.write(text)

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()
        if self._left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_the_submitting_and_loses_no_outcome(
    seedance, seedance_emulator, monkeypatch
):
    open_file = Path.open

    def on_full_disk(self, mode="r", *args, **options):
        file = open_file(self, mode, *args, **options)
        return FullDisk(file, 1) if mode == "x" else file

    monkeypatch.setattr(Path, "open", on_full_disk)
    monkeypatch.setattr(Path, "write_text", lambda *args, **kw: FullDisk(None, 0).write(""))
    Path("prompts.txt").write_bytes(b"".join(b"prompt %d\n" % n for n in range(40)))
    done = seedance("batch", "prompts.txt", "--max-in-flight", "1", "--no-journal")
    assert done.code == 6
    assert "outcomes follow here" in done.err
    assert "the remaining lines could not be written" in done.err
    shown = [json.loads(line) for line in done.err.splitlines() if line.startswith('{"line"')]
    assert len(shown) + len(results()) == 40
    assert len(seedance_emulator.ledger) < 10


def test_a_server_echoing_the_key_does_not_get_it_into_the_results(seedance, seedance_emulator):
    key = seedance_emulator.api_key
    seedance_emulator.faults.script("job", Fault("failed", message=f"\x1b[2J{key} \ud800"))
    done = seedance("batch", write("A river\n"))
    assert done.code == 1
    assert key not in Path("videos/results.jsonl").read_text() + done.err + done.out
    assert "\x1b" not in done.err
    assert results()[1]["error"]["message"].endswith(" \ud800")


@pytest.mark.seedance_emulator(submit_faults={"evil_request_id": 1.0})
def test_hostile_request_ids_name_no_file_outside_the_folder(seedance, seedance_emulator, tmp_path):
    done = seedance("batch", write("a\nb\nc\nd\ne\nf\n"), "-o", "deep/er/out")
    assert done.code in (0, 5, 6)
    places = {path.parent for path in tmp_path.rglob("*.mp4")}
    assert places <= {tmp_path / "deep/er/out"}
    assert all(r["state"] == "uncertain" or r["file"] for r in results("deep/er/out").values())


# --- lines that changed, and keys -----------------------------------------------------------------


def left_running(seedance, emulator, lines):
    """A batch whose jobs go on at the server while it is cut off."""
    Path("prompts.txt").write_text("\n".join(lines))
    for line in lines:
        emulator.faults.script("job", "stuck", match=line)
    return seedance("batch", "prompts.txt", "--timeout", "0.2")


def test_changed_lines_are_not_bought_while_their_jobs_may_be_running(seedance, seedance_emulator):
    left_running(seedance, seedance_emulator, ["a river", "a road"])
    charged = len(seedance_emulator.ledger.charged)
    done = seedance("batch", "prompts.txt", "--duration", "5")
    assert done.code == 2
    assert (
        "2 jobs of earlier runs may be running and paid for, and no line of this input" in done.err
    )
    assert "--leave-unmatched" in done.err
    assert len(seedance_emulator.ledger.charged) == charged == 2
    dry = seedance("batch", "prompts.txt", "--duration", "5", "--dry-run")
    assert "2 jobs of earlier runs may be running and paid for" in dry.out


def test_changed_lines_are_bought_if_told_so(seedance, seedance_emulator):
    left_running(seedance, seedance_emulator, ["a river"])
    done = seedance("batch", "prompts.txt", "--duration", "5", "--leave-unmatched")
    assert done.code == 0
    assert len(seedance_emulator.ledger.charged) == 2


def test_new_lines_beside_the_old_ones_need_no_flag(seedance, seedance_emulator):
    left_running(seedance, seedance_emulator, ["a river"])
    Path("prompts.txt").write_text("a river\na road\n")
    done = seedance("batch", "prompts.txt", "--timeout", "0.2")
    assert "--leave-unmatched" not in done.err
    assert len(seedance_emulator.ledger.charged) == 2


def test_a_key_column_keeps_a_line_the_same_whatever_changes(seedance, seedance_emulator):
    for duration in (4, 5):
        Path("shots.csv").write_text(f"key,prompt,duration\nshot-1,a river,{duration}\n")
        assert seedance("batch", "shots.csv").code == 0
    assert len(seedance_emulator.ledger.charged) == 1


def reworded_shots(*prompts):
    rows = "".join(f"shot-{at},{prompt}\n" for at, prompt in enumerate(prompts))
    Path("shots.csv").write_text(f"key,prompt\n{rows}")


def test_a_line_whose_prompt_has_changed_under_its_key_is_reported_as_it_was_bought(
    seedance, seedance_emulator
):
    reworded_shots("a river", "a road", "a wood", "a hill")
    assert seedance("batch", "shots.csv").code == 0
    reworded_shots("a lake", "a road", "a wood", "a dune")
    text = (
        "lines 1, 4 were bought with another prompt and are not bought again; "
        "give them another key to buy them"
    )
    assert text in " ".join(seedance("batch", "shots.csv", "--dry-run").err.split())
    done = seedance("batch", "shots.csv")
    assert text in " ".join(done.err.split())
    found = {record["line"]: record["prompt"] for record in results("videos").values()}
    assert found == {1: "a river", 2: "a road", 3: "a wood", 4: "a hill"}
    assert len(seedance_emulator.ledger.charged) == 4
    reworded_shots("a river", "a road", "a wood", "a hill")
    assert "another prompt" not in seedance("batch", "shots.csv").err


def shots(*rows):
    """Lines with a key, a prompt, a duration, media, a note and a seed each."""
    columns = "key,prompt,duration,media_urls,note,extra.seed"
    write("".join(f"{row}\n" for row in (columns, *rows)), "shots.csv")


@pytest.mark.seedance_emulator(unknown_fields="ignored", speed=2000)
def test_what_has_changed_under_a_key_is_told_but_for_signatures_and_columns_of_ones_own(
    seedance, seedance_emulator
):
    url = "https://media.example"
    shots(
        f"a,a river,4,{url}/a.jpg?s=1,n,", "b,a road,4,,n,", "c,a wood,4,,n,", "d,a hill,4,,n,",
        f"e,a lake,4,{url}/e.jpg,n,", "f,a dune,,,n,7", "g,a sea,4,,n,",
    )  # fmt: skip
    assert seedance("batch", "shots.csv").code == 0
    shots(
        f"a,a river,4,{url}/a.jpg?s=2,m,", "b,a street,5,,n,", "c,a wood,5,,n,", "d,a hill,6,,n,",
        f"e,a lake,4,{url}/f.jpg,n,", "f,a dune,5,,n,8", "g,a sea,4,,n,3",
    )  # fmt: skip
    text = (
        "line 2 was bought with duration 4 and another prompt, lines 3-4 were bought with "
        "duration 4, line 5 was bought with other media, line 6 was bought with no duration and "
        "extra.seed 7, line 7 was bought with no extra.seed; all of these are not bought again; "
        "give them another key to buy them"
    )
    for done in (seedance("batch", "shots.csv", "--dry-run"), seedance("batch", "shots.csv")):
        assert done.code == 0
        assert text in " ".join(done.err.split())
    assert len(seedance_emulator.ledger) == 7


@pytest.mark.seedance_emulator(unknown_fields="ignored", speed=2000)
def test_many_differences_are_told_in_a_few_words(seedance, seedance_emulator):
    numbers = range(1, 9)
    shots(*(f"k{number},a river,4,,," for number in numbers))
    assert seedance("batch", "shots.csv", "--duration", "4").code == 0
    shots(*(f"k{number},a river,4,,,{number}" for number in numbers))
    one = "lines 1-8 were bought with no extra.seed and are not bought again; give them another key"
    assert one in " ".join(seedance("batch", "shots.csv", "--dry-run").err.split())
    assert seedance("batch", "shots.csv", "-o", "seeds").code == 0
    shots(*(f"k{number},a river,4,,,{-number}" for number in numbers))
    shown = " ".join(seedance("batch", "shots.csv", "-o", "seeds", "--dry-run").err.split())
    assert "line 5 was bought with extra.seed 5, lines 6-8 were bought with another " in shown


@pytest.mark.parametrize(
    ("options", "prompt"), [((), "a river"), (("--resubmit-uncertain",), "a lake")]
)
def test_a_line_in_doubt_has_the_prompt_that_was_sent_last(
    seedance, seedance_emulator, options, prompt
):
    reworded_shots("a river")
    seedance_emulator.faults.script("submit", "drop_after_accept")
    assert seedance("batch", "shots.csv").code == 5
    reworded_shots("a lake")
    dry = seedance("batch", "shots.csv", "--dry-run", *options)
    done = seedance("batch", "shots.csv", *options)
    assert results("videos")[1]["prompt"] == prompt
    for each in (dry, done):
        assert ("line 1 was bought with another prompt" in each.err) is not bool(options)


def test_signed_urls_are_known_again_if_told_so(seedance, seedance_emulator):
    for signature in ("monday", "tuesday"):
        line = {"prompt": "a river", "mediaUrls": [f"https://media.example/a.jpg?s={signature}"]}
        Path("shots.jsonl").write_text(json.dumps(line))
        assert seedance("batch", "shots.jsonl", "--signed-urls").code == 0
        dry = seedance("batch", "shots.jsonl", "--signed-urls", "--dry-run")
        assert "0 jobs would be submitted" in dry.out
    assert len(seedance_emulator.ledger.charged) == 1


def test_keys_that_two_lines_share_are_refused_before_anything_is_sent(seedance, seedance_emulator):
    Path("shots.jsonl").write_text('{"key": "a", "prompt": "x"}\n{"key": "a", "prompt": "y"}\n')
    done = seedance("batch", "shots.jsonl")
    assert done.code == 2
    assert "line 2: key: 'a' must not be that of another line" in done.err
    assert not seedance_emulator.ledger
