"""Each test has PostgreSQL databases of its own, and what it left there is gone before the next."""

import psycopg
import pytest

from tests.services.databases import Databases


def _contents(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_class WHERE oid > 16383").fetchone()
    assert row is not None
    return int(row[0])


def test_two_databases_are_two(databases: Databases) -> None:
    one, other = databases.take(), databases.take()
    assert one != other
    for url in (one, other):
        databases.give_back(url)


def test_a_database_comes_back_empty_whatever_was_left_in_it(databases: Databases) -> None:
    url = databases.take()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "CREATE TABLE left_over (number INTEGER)",
            "CREATE SCHEMA elsewhere CREATE TABLE left_over (number SERIAL)",
            "CREATE TYPE mood AS ENUM ('good')",
            "CREATE FUNCTION one() RETURNS INTEGER LANGUAGE SQL AS 'SELECT 1'",
            "BEGIN",
            "INSERT INTO left_over VALUES (1)",
            "PREPARE TRANSACTION 'left_over'",
        ):
            connection.execute(statement)
    databases.give_back(url)
    assert databases.take() == url
    assert _contents(url) == 0
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE left_over (number INTEGER)")
    databases.give_back(url)


def test_a_session_that_was_forgotten_ends_with_its_test(databases: Databases) -> None:
    url = databases.take()
    with psycopg.connect(url) as forgotten:
        forgotten.execute("CREATE TABLE left_over (number INTEGER)")
        databases.give_back(url)
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute("SELECT 1")
    assert databases.take() == url
    assert _contents(url) == 0
    databases.give_back(url)
