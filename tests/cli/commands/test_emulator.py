"""`seedance emulator`: a server for another process to use."""

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from seedance_async import emulator as emulator_package
from seedance_async.emulator import KINDS
from tests.cli.conftest import QUICK, command
from tests.support.for_each import for_each


async def environment(process):
    """The two lines that the emulator prints, as a shell would take them."""
    lines = [(await process.process.stdout.readline()).decode() for _ in range(2)]
    assert all(line.startswith("export SEEDANCE_") for line in lines)
    return dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_prints_an_environment_that_works_and_serves_until_a_signal(number):
    options = ("--port", "0", "--speed", "600", "--media", "shared", "--ledger", "ledger.jsonl")
    async with command("emulator", *options, "--api-key", "sd2_live_mine") as server:
        served = await environment(server)
        assert served["SEEDANCE_API_KEY"] == "sd2_live_mine"
        async with command("generate", "A river", *QUICK, **served) as client:
            done = await client.done()
        assert done.code == 0
        assert Path(done.out.strip()).exists()
        server.send(number)
        ended = await server.done()
    assert ended.code == 0
    assert "1 submit received, 1 charged; prompts charged twice: 0" in ended.err
    (entry,) = map(json.loads, Path("ledger.jsonl").read_text().splitlines())
    assert entry["prompt"] == "A river"


def options_of(seedance, monkeypatch, *args):
    """The options that the emulator would run with."""
    given = []
    monkeypatch.setattr(emulator_package, "run", lambda options, ready: given.append(options))
    done = seedance("emulator", *args)
    assert done.code == 0, done.err
    assert "stopped before it listened" in done.err
    return given[0]


def test_the_defaults_are_a_fixed_port_and_a_job_of_some_seconds(seedance, monkeypatch):
    options = options_of(seedance, monkeypatch)
    assert (options.host, options.port, options.speed) == ("127.0.0.1", 8765, 20.0)
    assert options.media == "rendered"


def test_faults_are_given_by_operation_kind_and_probability(seedance, monkeypatch):
    options = options_of(
        seedance,
        monkeypatch,
        *("--fault", "submit:rate_limited retry_after=2=0.05", "--fault", "poll:502=0.1"),
        *("--fault", "submit:drop_after_accept=0.01", "--seed", "7", "--gpus", "3"),
    )
    assert options.submit_faults == {"rate_limited retry_after=2": 0.05, "drop_after_accept": 0.01}
    assert options.poll_faults == {"502": 0.1}
    assert (options.seed, options.gpus) == (7, 3)


@for_each(
    ("fault", "message"),
    [
        ("nonsense", "write OPERATION:KIND=PROBABILITY"),
        ("poll:502=often", "write OPERATION:KIND=PROBABILITY"),
        ("poll:nonsense=0.1", "no such fault: 'nonsense'; see --list-faults"),
        ("poll:failed=1", "failed does not happen to poll, but to job; write job:failed=1"),
        ("nonsense:502=0.1", "no such operation: 'nonsense'"),
        ("poll:502=2", "exceed 1"),
    ],
)
def test_an_impossible_fault_is_bad_input(seedance, fault, message):
    done = seedance("emulator", "--fault", fault)
    assert done.code == 2
    assert message in done.err


def test_the_kinds_of_faults_are_listed_and_the_help_says_where(seedance):
    assert "--list-faults" in seedance("emulator", "--help").out
    done = seedance("emulator", "--list-faults")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["KIND", "OPERATIONS", "EFFECT"]
    assert [row.split()[0] for row in rows] == list(emulator_package.KINDS)
    assert "failed                job  " in done.out


def test_a_port_that_is_taken_exits_with_3(seedance):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = seedance("emulator", "--port", str(taken.getsockname()[1]))
    assert done.code == 3
    assert "the emulator cannot start" in done.err


def test_the_environment_is_printed_once_it_listens(seedance, monkeypatch):
    class Listening:
        url, api_key = "http://127.0.0.1:1", "it's mine"

        def stats(self):
            return {"submits": 2, "charged": 1, "duplicates": {}}

    monkeypatch.setattr(emulator_package, "run", lambda options, ready: ready(Listening()))
    done = seedance("emulator")
    assert done.out == (
        "export SEEDANCE_BASE_URL=http://127.0.0.1:1\nexport SEEDANCE_API_KEY='it'\"'\"'s mine'\n"
    )
    assert "2 submits received, 1 charged" in done.err


@pytest.mark.parametrize("args", [["emulator"], ["demo"]])
def test_without_its_extra_the_emulator_says_how_to_install_it(args, seedance, monkeypatch):
    mine = (
        "seedance_async.emulator",
        "seedance_async.cli.demo.runner",
        "seedance_async.cli.demo.scenario",
    )
    for name in [name for name in sys.modules if name.startswith(mine)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    done = seedance(*args)
    assert done.code == 3
    assert done.err == (
        "seedance: av is not installed; "
        'pip install "seedance-async[emulator]" installs what the emulator needs\n'
    )


def test_a_missing_module_of_our_own_is_not_blamed_on_the_extra(seedance, monkeypatch):
    monkeypatch.setitem(sys.modules, "seedance_async.cli.demo.runner", None)
    with pytest.raises(ModuleNotFoundError):
        seedance("demo")


def test_nothing_else_imports_the_emulator():
    code = (
        "import sys, seedance_async.cli.app; "
        "sys.exit(any(n.startswith('seedance_async.emulator') for n in sys.modules))"
    )

    async def run():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        return await process.wait()

    assert asyncio.run(run()) == 0


def test_model_cards_are_a_document_a_list_or_one_a_line(seedance, monkeypatch):
    """As the API answers them, or as `seedance models --json` prints them."""
    card, other = {"id": "seedance-3.0", "durations": [30]}, {"id": "seedance-4.0"}
    Path("answer.json").write_text(json.dumps({"success": True, "data": [card, other]}, indent=1))
    Path("lines.json").write_text(f"{json.dumps(card)}\n\n{json.dumps(other)}\n")
    Path("one.json").write_text(json.dumps(card, indent=2))
    Path("two.json").write_text(json.dumps([other]))
    for files in (["answer.json"], ["lines.json"], ["one.json", "two.json"]):
        args = [part for file in files for part in ("--model-card", file)]
        assert options_of(seedance, monkeypatch, *args).models == [card, other]
    assert options_of(seedance, monkeypatch).models is None


@for_each(
    ("content", "words"),
    [
        (b"seedance-3.0", "not JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"", "not JSON"),
        (b"[]", "one or more"),
        (b'{"id": 3}', "id must be text"),
        (b'{"id": "x", "extra": ["prompt"]}', "extra.prompt is a documented field"),
    ],
)
def test_a_model_card_that_is_none_is_a_mistake_in_the_command(seedance, content, words):
    Path("card.json").write_bytes(content)
    done = seedance("emulator", "--port", "0", "--model-card", "card.json")
    assert done.code == 2
    assert words in done.err
    assert seedance("emulator", "--model-card", "none.json").code == 2


def test_the_help_names_the_faults_of_each_operation(seedance):
    shown = " ".join(seedance("emulator", "--help").out.split())
    assert " job: failed, stuck, cancelled" in shown
    assert " cancel, poll, submit: missing_request_id, nested, unknown_status, odd_case" in shown
    named = set(re.findall(r"\w+", shown.partition("Faults, by operation")[2]))
    assert set(KINDS) <= named
