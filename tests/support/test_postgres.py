"""The server that the tests start keeps what was committed, whatever ends it."""

import psycopg
import pytest


def test_a_server_that_is_restarted_has_what_was_committed_and_its_standby_follows(own_postgres):
    database = own_postgres.new_database()
    own_postgres.execute("CREATE TABLE kept AS SELECT 1 AS one", database=database)
    port, before = own_postgres.port, own_postgres.pid
    for mode in ("fast", "immediate"):
        own_postgres.restart(mode)
        assert own_postgres.execute("SELECT one FROM kept", database=database) == [(1,)]
    assert (own_postgres.port, own_postgres.pid != before) == (port, True)
    standby = own_postgres.new_standby()
    try:
        assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
        own_postgres.stop("immediate")
        standby.promote()
        assert standby.execute("SELECT one FROM kept", database=database) == [(1,)]
    finally:
        standby.close()


def test_a_role_needs_its_password(postgres):
    postgres.new_role("someone", "s3cret")
    psycopg.connect(postgres.dsn(user="someone", password="s3cret")).close()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.dsn(user="someone", password="wrong"))
