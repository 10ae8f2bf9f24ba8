"""`seedance.toml`: what it may say, which of several values holds, and the key in it."""

from pathlib import Path

import pytest

from seedance_async.cli import app, connection
from seedance_async.cli.config import ANYWHERE, read_settings
from tests.cli.conftest import write_prompts
from tests.support.for_each import for_each

SECRET = "sd2_live_a_key_of_the_file"


@pytest.fixture(autouse=True)
def _own_config(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("SEEDANCE_CONFIG_DIR", str(tmp_path / "config"))


def own(text, mode=0o600):
    path = Path("config/seedance.toml")
    path.write_text(text)
    path.chmod(mode)
    return path


def here(text):
    Path("seedance.toml").write_text(text)


@pytest.fixture
def options(monkeypatch, seedance):
    """The options that a batch gives its session."""

    def of(*args):
        seen = {}

        def session(self, **given):
            seen.update(given, base_url=self.base_url, poll_interval=self.poll_interval)
            raise app.SeedanceError("seen")

        monkeypatch.setattr(connection.Connection, "session", session)
        write_prompts(1)
        done = seedance("batch", "prompts.txt", *args)
        assert "seen" in done.err, done.err
        return seen

    return of


def test_the_command_line_comes_before_the_environment_the_folder_the_user_and_the_default(
    options, monkeypatch
):
    assert options()["max_in_flight"] == 20
    own('max-in-flight = 7\nbase-url = "https://own.example"\nupload = "s3://own"\n')
    assert options()["max_in_flight"] == 7
    assert options()["base_url"] == "https://own.example"
    here("max-in-flight = 8\n")
    assert options()["max_in_flight"] == 8
    assert options("--max-in-flight", "9")["max_in_flight"] == 9
    monkeypatch.setenv("SEEDANCE_BASE_URL", "https://environment.example")
    assert options()["base_url"] == "https://environment.example"
    assert options("--base-url", "https://flag.example")["base_url"] == "https://flag.example"


def test_a_table_is_for_its_command_alone(options):
    here("max-in-flight = 8\ntimeout = 100\n[batch]\nmax-in-flight = 3\nmax-credits = 500\n")
    found = options()
    assert (found["max_in_flight"], found["job_timeout"], found["max_credits"]) == (3, 100, 500)
    defaults = read_settings(app.cli).defaults
    assert defaults["resume"]["max_in_flight"] == 8
    assert "max_credits" not in defaults["resume"]


def test_a_command_within_another_has_a_table_of_its_own():
    here("poll-interval = 3\n[journal.adopt]\npoll-interval = 4\n")
    defaults = read_settings(app.cli).defaults
    assert defaults["status"]["poll_interval"] == 3
    assert defaults["journal"]["adopt"]["poll_interval"] == 4


def test_every_option_that_a_file_may_have_is_one():
    own("".join(f"{name} = 1\n" for name in ANYWHERE - {"verbose"}) + 'upload = "s3://x"\n')
    read_settings(app.cli)
    own("verbose = true\n" + "ask-above = 7\nbase-url = 'http://x'\nupload = 's3://x'\n")
    assert read_settings(app.cli).defaults["batch"]["verbose"] is True


@for_each(
    ("text", "message"),
    [
        ("max-in-fligt = 1", "max-in-fligt is no option; did you mean max-in-flight?"),
        ("max_in_flight = 1", "max_in_flight is no option; did you mean max-in-flight?"),
        ("[bach]\ntimeout = 1", "[bach] is no command; did you mean batch?"),
        ("[status]\nmax-in-flight = 1", "max-in-flight is no option of seedance status"),
        ("[journal.adopt]\npoll = 1", "poll is no option of seedance journal adopt"),
        ("max-in-flight = 'many'", "max-in-flight must be a whole number"),
        ("max-credits = '20'", "max-credits must be a whole number"),
        ("max-credits = 20.9", "max-credits must be a whole number"),
        ("timeout = '20'", "timeout must be a number"),
        ("timeout = 2026-11-30", "timeout must be a number"),
        ("max-in-flight = 0", "max-in-flight: 0 is not in the range x>=1"),
        ("max-in-flight = true", "max-in-flight must be a whole number"),
        ("max-in-flight = [1]", "max-in-flight must be a whole number"),
        ("verbose = 1", "verbose must be true or false"),
        ("nonsense", "cannot be read: "),
        ("[batch]\ntakes = 4", "takes decides what is done or bought"),
        ("resolution = '1080p'", "resolution decides what is done or bought"),
        ("output = 'elsewhere'", "output decides what is done or bought"),
        ("overwrite = true", "overwrite decides what is done or bought"),
        ("base-url = 'https://x'", "base-url may stand in your own "),
        ("upload = 's3://x'", "upload may stand in your own "),
        ("ask-above = 10000", "ask-above may stand in your own "),
        ("yes = true", "yes decides what is done or bought"),
        (f"api-key = '{SECRET}'", "api-key may stand in your own "),
    ],
)
def test_what_the_file_of_a_folder_may_not_say(seedance, seedance_emulator, text, message):
    here(text)
    write_prompts(1)
    done = seedance("batch", "prompts.txt")
    assert done.code == 3
    assert "seedance.toml" in done.err
    assert message in done.err
    assert SECRET not in done.err
    assert not seedance_emulator.ledger


def test_help_and_completion_work_whatever_is_in_a_file(seedance):
    here("nonsense")
    assert seedance("batch", "--help").code == 0
    assert seedance("completion", "bash").code == 0
    assert seedance("history").code == 3


# --- the key --------------------------------------------------------------------------------------


def test_the_key_may_be_in_a_file_that_nobody_else_can_read(
    seedance, seedance_emulator, monkeypatch
):
    own(f'api-key = "{seedance_emulator.api_key}"\nbase-url = "{seedance_emulator.url}"\n')
    for name in ("SEEDANCE_API_KEY", "SEEDANCE_BASE_URL"):
        monkeypatch.delenv(name)
    assert seedance("models").code == 0
    seedance_emulator.faults.script("poll", "key_echo")
    done = seedance("status", "req_1")
    assert seedance_emulator.api_key not in done.out + done.err
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_another")
    assert seedance("models").code == 4, "the environment comes first"


@for_each("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(seedance, mode):
    path = own(f'api-key = "{SECRET}"\n', mode)
    done = seedance("models")
    assert done.code == 3
    assert f"{path.absolute()} has the API key, and other users can read it: chmod 600 " in done.err
    assert SECRET not in done.err


def test_a_file_without_the_key_may_be_read_by_anybody(options):
    own("max-in-flight = 7\n", 0o644)
    assert options()["max_in_flight"] == 7


@for_each("text", ["api-key = 5", "api-key = ' '", f"api-kye = '{SECRET}'"])
def test_a_key_that_is_none_is_not_shown(seedance, text):
    own(text)
    done = seedance("models")
    assert done.code == 3
    assert "api-key" in done.err
    assert SECRET not in done.err
