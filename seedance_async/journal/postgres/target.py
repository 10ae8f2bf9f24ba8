"""Where a journal in Postgres is, and how it is connected to. The password is shown by nothing."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper

from seedance_async.journal.postgres.schema import Connection

#: Unless the DSN says otherwise. A server that vanished without a word is noticed in seconds.
_DEFAULTS: dict[str, Any] = {
    "application_name": "seedance-async",
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",
}

#: Of each session. One that is stopped while it holds the lock of the journal is thrown out, so
#: that others go on: by the server, or else by the first that has waited for the lock for so long.
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    # Statements are planned while the tables are empty, and would read all of them ever after.
    "enable_seqscan": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "8s",
    "statement_timeout": "60s",
    "tcp_user_timeout": "10s",
}

#: A queue's name is part of that of a schema, of which Postgres keeps 63 bytes.
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")

#: Errors that pass by themselves, or once somebody has done something about the server: the
#: connection, resources, an operator's intervention, the disk, a conflict of transactions.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_PASSING_STATES = {
    "25006",  # the server is read-only: a standby, or a disk that is nearly full
    "25P02",  # the transaction failed before
    "25P03",  # it was idle for too long
    "55P03",  # a lock was not to be had
}
#: What no waiting helps against when a connection is refused. libpq gives no code.
_REFUSED = re.compile("authentication failed|no password supplied|does not exist|no pg_hba.conf")


class Target:
    """A journal's place: a database, and in it the schema of a queue.

    Args:
        dsn: a URL or a connection string of libpq.
        queue: the name of the journal.

    Attributes:
        name: what it is called in errors; without the password.
        schema: where its tables are.
        lock: the number of the lock that whoever writes it holds.

    Raises:
        ValueError: the DSN or the name cannot be used. The message does not show the DSN.
    """

    def __init__(self, dsn: str, queue: str) -> None:
        if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
            raise ValueError(
                "the name of a queue is 1 to 50 letters, digits, hyphens and underscores, and "
                f"begins with a letter or a digit; not {queue!r}"
            )
        try:
            given = conninfo_to_dict(dsn)
        except (psycopg.Error, TypeError):  # whose message shows it
            given = None
        del dsn  # so that no traceback with local variables does
        if given is None:
            raise ValueError("the DSN of the journal is neither a URL nor a connection string")
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **given, "client_encoding": "utf8"})
        self.schema = "seedance" if queue == "default" else f"seedance_{queue}"
        self.name = _shown(given, queue)
        digest = hashlib.sha256(self.schema.encode()).digest()
        self.lock = int.from_bytes(digest[:8], "big", signed=True)

    def __repr__(self) -> str:
        return f"<Target {self.name}>"

    def __reduce__(self) -> Any:
        raise TypeError("a place with its password is never pickled")

    def connect(self) -> Connection:
        """A new connection in autocommit mode. Raises psycopg.OperationalError."""
        connection = self._connected()
        try:
            connection.prepared_max = 1000
            for kind, dumper in ((str, _TextDumper), (int, Int8Dumper)):
                connection.adapters.register_dumper(kind, dumper)
            connection.adapters.register_loader("text", _TextLoader)
            connection.adapters.register_loader("numeric", _WholeNumberLoader)
            settings = {"search_path": f'"{self.schema}"', **_SETTINGS}
            calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
            values = [text for pair in settings.items() for text in pair]
            connection.execute(f"SELECT {calls}", values)
            # A commit must be on the disk, at least of this server, when it is acknowledged.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self) -> Connection:
        try:
            return psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=0)
        except psycopg.Error as error:  # which has the password among its attributes
            reason = str(error)
        raise psycopg.OperationalError(reason)


def is_passing(error: Exception) -> bool:
    """Whether what failed may succeed later, unchanged."""
    if isinstance(error, psycopg.errors.PipelineAborted):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:  # no word of the server's: the connection
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return lost and not _REFUSED.search(str(error))
    return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES


def _shown(given: dict[str, Any], queue: str) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = ",".join(
        f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)
    )
    return f"postgresql://{user}{places}/{given.get('dbname') or ''} ({queue})"


# Postgres keeps no NUL in a text: it is escaped, and so is what escapes it.


class _TextDumper(Dumper):
    oid = psycopg.adapters.types["text"].oid

    def dump(self, obj: str) -> bytes:
        if "\0" in obj or "\x1a" in obj:
            obj = obj.replace("\x1a", "\x1a1").replace("\0", "\x1a0")
        return obj.encode()


class _TextLoader(Loader):
    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if "\x1a" in text:
            text = text.replace("\x1a0", "\0").replace("\x1a1", "\x1a")
        return text


class _WholeNumberLoader(Loader):
    """A sum of whole numbers, which Postgres makes a numeric of."""

    def load(self, data: Any) -> int:
        return int(bytes(data))
