"""A real PostgreSQL for the tests: a server of their own on a free port, started once a session.

    def test_something(postgres_dsn):             # an empty database of the session's server
    def test_a_restart(own_postgres):             # a server of this test alone: stop, restart, ...

Servers end with the process of the tests, however it ends. Where PostgreSQL is not installed, the
tests that need it are skipped; with CI set in the environment they fail.
"""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

#: Where Debian keeps the programs, the newest version first; elsewhere they are on the PATH.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "wal_keep_size": "64MB",
    "wal_level": "replica",
    "hot_standby": "on",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}
#: The superuser needs no password from this machine; all others do.
_ACCESS = """\
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def program(name):
    """The path of one of PostgreSQL's programs; None if it is not installed."""
    found = [folder / name for folder in _FOLDERS if (folder / name).exists()]
    return str(found[0]) if found else shutil.which(name)


def is_installed():
    return program("initdb") is not None and program("postgres") is not None


def required():
    """Skip the test if there is no PostgreSQL; in CI that is a failure."""
    if not is_installed():
        reason = "PostgreSQL is not installed: the tests of Postgres did not run"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def _as_owner():
    """How to run a program as somebody other than root, whom PostgreSQL refuses."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if _is_root() else {}


def _is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


def run(name, *arguments):
    """Run one of PostgreSQL's programs as the owner of the servers; what it printed."""
    done = subprocess.run(
        [program(name), *map(str, arguments)], capture_output=True, text=True, cwd="/",
        env=os.environ | {"LC_ALL": "C", "TZ": "UTC"}, **_as_owner(),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")
    return done.stdout


def new_folder():
    """An empty folder that belongs to the owner of the servers."""
    folder = Path(tempfile.mkdtemp(prefix="seedance-postgres-"))
    if _is_root():
        shutil.chown(folder, "postgres", "postgres")
    return folder


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@functools.cache
def _new_data():
    """The data of a new server, to be copied: that is faster than to make them."""
    home = new_folder()
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    run("initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
        "--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=1")  # fmt: skip
    (home / "data" / "pg_hba.conf").write_text(_ACCESS)
    return home / "data"


class PostgresServer:
    """A server with data of its own. Blocks in everything it does.

    Args:
        durable: whether it flushes to the disk, which only matters where the machine may fail.
        settings: of the server, by name.
        folder: the data of a server that exists, a copy for example; None for a new one.
    """

    _names = itertools.count(1)

    def __init__(self, *, durable=False, settings=None, folder=None):
        self._home = None if folder else new_folder()
        self.folder = Path(folder or self._home / "data")
        self.port = free_port()
        self.settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | (settings or {})
        self.process = None
        if folder is None:
            subprocess.run(["cp", "-a", str(_new_data()), str(self.folder)], check=True)

    def __repr__(self):
        state = "stopped" if self.process is None else "running"
        return f"<PostgresServer on port {self.port}, {state}>"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        """The main process's."""
        return self.process.pid

    def dsn(self, database="postgres", *, user="postgres", password=None):
        """The URL of one of its databases."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def start(self):
        """Start it, and wait until it answers."""
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        command = [program("postgres"), "-D", str(self.folder), f"--port={self.port}", *options]
        if dies := shutil.which("setpriv"):  # with the process of the tests
            command = [dies, "--pdeathsig", "QUIT", *command]
        with (self.folder.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env=os.environ | {"LC_ALL": "C", "TZ": "UTC"}, **_as_owner(),
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, seconds=30.0):
        """Wait until it takes connections."""
        import psycopg

        until = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start: {self.log()[-2000:]}")
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, mode="fast"):
        """Stop it, and wait for its end.

        Args:
            mode: "fast" ends its connections in order; "immediate" is a crash; "smart" waits for
                all clients to go.
        """
        signals = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "smart": signal.SIGTERM}
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signals[mode])
            self.process.wait(60)
            self.process = None

    def restart(self, mode="fast"):
        """Stop and start it, on the same port."""
        self.stop(mode)
        self.start()

    def restore(self, backup):
        """Put a copy of its folder in its place, while it is stopped."""
        shutil.rmtree(self.folder)
        shutil.copytree(backup, self.folder)
        if _is_root():
            subprocess.run(["chown", "-R", "postgres:postgres", str(self.folder)], check=True)

    def close(self):
        """End it for good and remove its data."""
        self.stop("immediate")
        shutil.rmtree(self._home or self.folder, ignore_errors=True)

    def log(self):
        """All that it has logged."""
        return (self.folder.parent / "log").read_text(errors="replace")

    def execute(self, statement, *values, database="postgres"):
        """Run one statement as the superuser, in a transaction of its own; its rows."""
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def new_database(self):
        """Create an empty database; its name."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def new_role(self, name, password):
        """Create a role that may log in with a password, and nothing else."""
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")

    def new_standby(self, **settings):
        """A standby that follows this server by asynchronous streaming replication, started.

        `promote` makes a primary of it.
        """
        home = new_folder()
        run("pg_basebackup", "-d", self.dsn(), "-D", home / "data", "-R", "-X", "stream",
            "--checkpoint=fast", "--no-sync")  # fmt: skip
        standby = PostgresServer(folder=home / "data", settings=settings)
        standby._home = home
        standby.start()
        return standby

    def wait_for(self, primary):
        """Wait until a standby has all that its primary has."""
        (now,) = primary.execute("SELECT pg_current_wal_lsn()::text")[0]
        self._wait_until(f"SELECT pg_last_wal_replay_lsn() >= '{now}'")

    def stop_following(self):
        """From now on, a standby lacks what its primary commits."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        self._wait_until("SELECT NOT EXISTS (SELECT 1 FROM pg_stat_wal_receiver)")

    def _wait_until(self, condition, seconds=30.0):
        until = time.monotonic() + seconds
        while self.execute(condition) != [(True,)]:
            if time.monotonic() > until:
                raise TimeoutError(condition)
            time.sleep(0.01)

    def promote(self):
        """Make a primary of a standby; returns when it takes writes."""
        self.execute("SELECT pg_promote()")


@pytest.fixture(scope="session")
def postgres():
    """The server that the tests of this process share. It is not durable, and is never stopped."""
    required()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres):
    """The URL of an empty database."""
    return postgres.dsn(postgres.new_database())


@pytest.fixture
def own_postgres():
    """A server of this test alone, to be stopped, filled or broken."""
    required()
    with PostgresServer() as server:
        yield server
