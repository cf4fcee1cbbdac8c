"""psycopg 3 through a pool that has fewer connections than there are clients."""

import threading
import time
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from scenario import AUTHORITY, CLIENTS, LARGE_ROWS, SECONDS, Refused, expect, main, refused


def connect(**options):
    return psycopg.connect("", **options)


def test_connect():
    with connect(application_name="first") as one, connect(options="-c geqo=off -c search_path=pg_catalog") as two:
        expect(one.execute("SELECT current_setting('application_name')").fetchone(), ("first",))
        expect(one.execute("SHOW geqo").fetchone(), ("on",))
        expect(two.execute("SHOW geqo").fetchone(), ("off",))
        expect(two.execute("SHOW search_path").fetchone(), ("pg_catalog",))
        expect(one.info.server_version // 10000, 15)
        expect(one.info.encoding, "utf-8")
        expect(one.info.parameter_status("integer_datetimes"), "on")
    with connect(client_encoding="latin1") as latin:
        expect(latin.execute("SELECT 'é'::text, octet_length('é')").fetchone(), ("é", 2))
    try:
        connect(password="wrong")
    except psycopg.OperationalError as error:
        assert "authentication failed" in str(error), error
    else:
        raise AssertionError("a wrong password was let in")


def test_tls():
    if not AUTHORITY:
        raise Refused("no TLS here")
    with connect(sslmode="verify-full", sslrootcert=AUTHORITY, host="localhost", hostaddr="127.0.0.1") as conn:
        assert conn.pgconn.ssl_in_use
        expect(conn.execute("SELECT repeat('x', 1000000)").fetchone(), ("x" * 1000000,))
    with connect(sslmode="disable") as conn:
        assert not conn.pgconn.ssl_in_use
        expect(conn.execute("SELECT 1").fetchone(), (1,))


def test_simple():
    with connect(autocommit=True) as conn:
        cur = conn.execute("SELECT 1 AS a; SELECT 2 AS b, 3 AS c; SELECT 4 WHERE false")
        expect(cur.fetchall(), [(1,)])
        assert cur.nextset()
        expect([column.name for column in cur.description], ["b", "c"])
        expect(cur.fetchall(), [(2, 3)])
        assert cur.nextset()
        expect(cur.fetchall(), [])
        assert cur.nextset() is None
        expect(conn.execute("").pgresult.status, psycopg.pq.ExecStatus.EMPTY_QUERY)
        with psycopg.ClientCursor(conn) as client:
            expect(client.execute("SELECT %s, %s", ["a'b\\", 5]).fetchone(), ("a'b\\", 5))


def test_extended():
    with connect(autocommit=True, row_factory=dict_row) as conn:
        row = conn.execute("SELECT %s::int AS n, %s::text AS t", [7, "seven"]).fetchone()
        expect(row, {"n": 7, "t": "seven"})
        cur = conn.cursor(binary=True)
        expect(cur.execute("SELECT %b::int8 AS n", [1 << 40]).fetchone(), {"n": 1 << 40})
        try:
            conn.execute("SELECT %s::int", ["no number"])
        except errors.InvalidTextRepresentation as error:
            refused("22P02", error)
        expect(conn.execute("SELECT %s::bytea AS b", [bytes(range(256)) * 4000]).fetchone()["b"], bytes(range(256)) * 4000)


def test_prepared():
    with connect(autocommit=True, prepare_threshold=0) as conn:
        conn.prepared_max = 5
        for turn in range(3):
            for number in range(30):
                row = conn.execute(f"SELECT %s::int + {number}", [turn], prepare=True).fetchone()
                expect(row, (turn + number,))
        for number in range(20):
            try:
                conn.execute(f"SELECT %s::int / 0 + {number}", [1], prepare=True)
            except errors.DivisionByZero:
                pass
        known = conn.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchone()[0]
        assert known >= 0
    # Those of equal texts of another client are its own.
    with connect(prepare_threshold=0) as one, connect(prepare_threshold=0) as two:
        for conn in (one, two, one, two):
            expect(conn.execute("SELECT %s::int + 1", [1]).fetchone(), (2,))
            conn.commit()


def test_cursor():
    with connect() as conn:
        with conn.cursor("rows") as cur:
            cur.execute("SELECT n FROM generate_series(1, 10000) n")
            expect(cur.fetchmany(3), [(1,), (2,), (3,)])
            cur.itersize = 100
            expect(sum(n for (n,) in cur), 10000 * 10001 // 2 - 6)
        with conn.cursor("back", scrollable=True) as cur:
            cur.execute("SELECT n FROM generate_series(1, 10) n")
            cur.scroll(9)
            expect(cur.fetchone(), (10,))
            cur.scroll(-5)
            expect(cur.fetchone(), (6,))
        conn.commit()
        with conn.cursor("held", withhold=True) as cur:
            cur.execute("SELECT n FROM generate_series(1, 10) n")
            conn.commit()
            expect(len(cur.fetchall()), 10)
        with conn.cursor() as cur:
            expect(sum(n for (n,) in cur.stream("SELECT n FROM generate_series(1, 1000) n")), 500500)


def test_transaction():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_tx")
        conn.execute("CREATE TABLE psycopg_tx (n int PRIMARY KEY)")
        conn.commit()
        conn.execute("INSERT INTO psycopg_tx VALUES (1)")
        conn.rollback()
        expect(conn.execute("SELECT count(*) FROM psycopg_tx").fetchone(), (0,))
        conn.rollback()
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.read_only = True
        try:
            conn.execute("INSERT INTO psycopg_tx VALUES (2)")
        except errors.ReadOnlySqlTransaction as error:
            refused("25006", error)
        expect(conn.info.transaction_status.name, "INERROR")
        try:
            conn.execute("SELECT 1")
        except errors.InFailedSqlTransaction as error:
            refused("25P02", error)
        conn.rollback()
        expect(conn.execute("SHOW transaction_isolation").fetchone(), ("serializable",))
        conn.rollback()
        conn.read_only, conn.isolation_level = None, None
        with conn.transaction(force_rollback=True):
            conn.execute("INSERT INTO psycopg_tx VALUES (3)")
        conn.commit()
        expect(conn.execute("SELECT count(*) FROM psycopg_tx").fetchone(), (0,))


def test_savepoint():
    with connect(autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_sp")
        conn.execute("CREATE TABLE psycopg_sp (n int PRIMARY KEY)")
        with conn.transaction():
            for n in range(20):
                try:
                    with conn.transaction():
                        conn.execute("INSERT INTO psycopg_sp VALUES (%s)", [n // 2], prepare=True)
                except errors.UniqueViolation as error:
                    expect(error.diag.constraint_name, "psycopg_sp_pkey")
            with conn.transaction("outer") as outer, conn.transaction("inner"):
                conn.execute("SET LOCAL application_name = 'within'")
                conn.execute("INSERT INTO psycopg_sp VALUES (100)")
                raise psycopg.Rollback(outer)
        expect(conn.execute("SELECT count(*), max(n) FROM psycopg_sp").fetchone(), (10, 9))
        assert conn.execute("SHOW application_name").fetchone() != ("within",)


def test_pipeline():
    with connect(autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_pipe")
        conn.execute("CREATE TABLE psycopg_pipe (n int PRIMARY KEY)")
        with conn.pipeline() as pipe:
            curs = [conn.execute("SELECT %s::int * 2", [n]) for n in range(200)]
            expect([cur.fetchone()[0] for cur in curs], [n * 2 for n in range(200)])
            conn.execute("INSERT INTO psycopg_pipe VALUES (1)")
            pipe.sync()
        try:
            with conn.pipeline():
                for n in (2, 1, 3):
                    conn.execute("INSERT INTO psycopg_pipe VALUES (%s)", [n])
        except errors.UniqueViolation as error:
            refused("23505", error)
        else:
            raise AssertionError("a pipeline went on after an error")
        expect(conn.execute("SELECT n FROM psycopg_pipe ORDER BY n").fetchall(), [(1,)])
        with conn.pipeline(), conn.transaction():
            with conn.cursor() as cur:
                cur.executemany("INSERT INTO psycopg_pipe VALUES (%s)", [(n,) for n in range(10, 500)])
        expect(conn.execute("SELECT count(*) FROM psycopg_pipe").fetchone(), (491,))
        with conn.cursor() as cur:
            cur.executemany("SELECT %s::int", [(n,) for n in range(50)], returning=True)
            found = []
            while True:
                found += cur.fetchone()
                if not cur.nextset():
                    break
            expect(found, list(range(50)))


def test_copy():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_copy")
        conn.execute("CREATE TABLE psycopg_copy (n int, t text)")
        conn.commit()
        with conn.cursor() as cur:
            with cur.copy("COPY psycopg_copy FROM STDIN") as copy:
                for n in range(20000):
                    copy.write_row((n, f"row\t{n}\n\\"))
            with cur.copy("COPY psycopg_copy FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "text"])
                for n in range(20000, 30000):
                    copy.write_row((n, "binary"))
            with cur.copy("COPY psycopg_copy TO STDOUT") as copy:
                copy.set_types(["int4", "text"])
                expect(sum(row[0] for row in copy.rows()), 30000 * 29999 // 2)
            with cur.copy("COPY (SELECT n FROM psycopg_copy WHERE n < 100) TO STDOUT (FORMAT binary)") as copy:
                copy.set_types(["int4"])
                expect(sorted(row[0] for row in copy.rows()), list(range(100)))
            conn.commit()
            try:
                with cur.copy("COPY psycopg_copy FROM STDIN") as copy:
                    copy.write("no number\trow\n")
            except errors.InvalidTextRepresentation as error:
                refused("22P02", error)
            conn.rollback()
            try:
                with cur.copy("COPY psycopg_copy FROM STDIN") as copy:
                    copy.write("1\trow\n")
                    raise KeyError("the client gives up")
            except KeyError:
                pass
            conn.rollback()
            expect(conn.execute("SELECT count(*) FROM psycopg_copy").fetchone(), (30000,))


def test_notices():
    with connect(autocommit=True) as conn:
        heard = []
        conn.add_notice_handler(lambda diag: heard.append((diag.severity, diag.message_primary, diag.message_detail)))
        conn.execute("DO $$ BEGIN RAISE NOTICE 'hear %', 1; RAISE WARNING 'two' USING DETAIL = 'more'; END $$")
        expect(heard, [("NOTICE", "hear 1", None), ("WARNING", "two", "more")])
        conn.execute("SET client_min_messages = error")
        conn.execute("DO $$ BEGIN RAISE NOTICE 'silent'; END $$")
        expect(len(heard), 2)


def test_types():
    now = datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=timezone.utc)
    values = [True, -5, 1 << 62, 0.1, Decimal("123456789.987654321"), "é€𝄞'\"", b"\x00\xff", date(2024, 2, 29), now,
              timedelta(days=3, seconds=5), UUID(int=77), [1, None, 3], ["a,b", 'c"d'], Jsonb({"a": [1, {"b": None}]}), None,
              Range(1, 10), [[1, 2], [3, 4]]]
    casts = ["bool", "int4", "int8", "float8", "numeric", "text", "bytea", "date", "timestamptz", "interval", "uuid", "int4[]",
             "text[]", "jsonb", "text", "int4range", "int4[][]"]
    with connect(autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")
        wanted = tuple(value.obj if isinstance(value, Jsonb) else value for value in values)
        for binary in (False, True):
            cur = conn.cursor(binary=binary)
            columns = sql.SQL(", ").join(sql.SQL("%s::" + cast) for cast in casts)
            expect(cur.execute(sql.SQL("SELECT ") + columns, values).fetchone(), wanted)
        conn.execute("DROP TYPE IF EXISTS psycopg_mood; DROP TYPE IF EXISTS psycopg_pair")
        conn.execute("CREATE TYPE psycopg_mood AS ENUM ('good', 'bad')")
        conn.execute("CREATE TYPE psycopg_pair AS (a int, b text)")
        psycopg.types.composite.register_composite(psycopg.types.composite.CompositeInfo.fetch(conn, "psycopg_pair"), conn)
        row = conn.execute("SELECT 'bad'::psycopg_mood, (7, 'x')::psycopg_pair").fetchone()
        expect((row[0], row[1].a, row[1].b), ("bad", 7, "x"))


def test_settings():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("CREATE SCHEMA IF NOT EXISTS psycopg_other")
        one.execute("SET timezone = 'Asia/Tokyo'; SET search_path = psycopg_other, public; SET application_name = 'mine'")
        for _ in range(20):
            expect(two.execute("SHOW search_path").fetchone(), ('"$user", public',))
            expect(one.execute("SELECT current_setting('search_path'), current_setting('timezone')").fetchone(),
                   ("psycopg_other, public", "Asia/Tokyo"))
            expect(str(one.info.timezone), "Asia/Tokyo")
            assert two.execute("SHOW timezone").fetchone() != ("Asia/Tokyo",)
        with one.transaction():
            one.execute("SET LOCAL timezone = 'Europe/Berlin'")
            expect(one.execute("SHOW timezone").fetchone(), ("Europe/Berlin",))
        expect(one.execute("SHOW timezone").fetchone(), ("Asia/Tokyo",))
        try:
            with one.transaction():
                one.execute("SET timezone = 'Europe/Paris'")
                one.execute("SELECT 1/0")
        except errors.DivisionByZero:
            pass
        expect(one.execute("SHOW timezone").fetchone(), ("Asia/Tokyo",))
        one.execute("SELECT set_config('timezone', 'Europe/Rome', false)")
        expect(one.execute("SHOW timezone").fetchone(), ("Europe/Rome",))
        one.execute("RESET ALL")
        expect(one.execute("SHOW search_path").fetchone(), ('"$user", public',))
        expect(two.execute("SHOW application_name").fetchone(), ("",))


def test_cancel():
    with connect(autocommit=True) as conn:
        for safe in (False, True):
            timer = threading.Timer(0.3, conn.cancel_safe if safe else conn.cancel)
            timer.start()
            start = time.monotonic()
            try:
                conn.execute("SELECT pg_sleep(20)")
            except errors.QueryCanceled as error:
                refused("57014", error)
            else:
                raise AssertionError("nothing was cancelled")
            timer.join()
            assert time.monotonic() - start < 10
            expect(conn.execute("SELECT 5").fetchone(), (5,))
        # What comes too late cancels nothing, neither of this one's nor of another one's.
        with connect(autocommit=True) as other:
            for _ in range(30):
                conn.cancel()
                expect(other.execute("SELECT 6").fetchone(), (6,))


def test_large():
    with connect(autocommit=True) as conn, conn.cursor() as cur:
        rows = cur.stream("SELECT n, repeat('x', 992) FROM generate_series(1, %s) n", [LARGE_ROWS], size=1)
        expect(sum(len(text) for _, text in rows), LARGE_ROWS * 992)


def test_two_phase():
    with connect() as conn, connect() as other:
        conn.execute("DROP TABLE IF EXISTS psycopg_tpc")
        conn.execute("CREATE TABLE psycopg_tpc (n int)")
        conn.commit()
        for commits in (True, False):
            xid = conn.xid(1, f"psycopg-{commits}", "branch")
            conn.tpc_begin(xid)
            conn.execute("INSERT INTO psycopg_tpc VALUES (1)")
            conn.tpc_prepare()
            assert any(found.gtrid == xid.gtrid for found in other.tpc_recover())
            other.rollback()
            if commits:
                conn.tpc_commit()
            else:
                conn.tpc_rollback()
        expect(other.execute("SELECT count(*) FROM psycopg_tpc").fetchone(), (1,))
        other.rollback()
        conn.tpc_begin("elsewhere")
        conn.execute("INSERT INTO psycopg_tpc VALUES (2)")
        conn.tpc_prepare()
        other.tpc_commit("elsewhere")
        expect(other.execute("SELECT count(*) FROM psycopg_tpc").fetchone(), (2,))
        # It does not know that its transaction is over.
        conn.close()


def test_temporary():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        for conn, value in ((one, 1), (two, 2)):
            conn.execute("CREATE TEMP TABLE psycopg_temp (n int)")
            conn.execute("INSERT INTO psycopg_temp VALUES (%s)", [value])
        for _ in range(10):
            expect(one.execute("SELECT n FROM psycopg_temp").fetchall(), [(1,)])
            expect(two.execute("SELECT n FROM psycopg_temp").fetchall(), [(2,)])
    with connect(autocommit=True) as three:
        try:
            three.execute("SELECT n FROM psycopg_temp")
        except errors.UndefinedTable as error:
            refused("42P01", error)


def test_locks():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("SELECT pg_advisory_lock(4711)")
        for _ in range(10):
            expect(two.execute("SELECT pg_try_advisory_lock(4711)").fetchone(), (False,))
        expect(one.execute("SELECT pg_advisory_unlock(4711)").fetchone(), (True,))
        expect(two.execute("SELECT pg_try_advisory_lock(4711)").fetchone(), (True,))
    # Whoever goes lets go, as soon as the server has noticed.
    with connect(autocommit=True) as three:
        until = time.monotonic() + 10
        while three.execute("SELECT pg_try_advisory_lock(4711)").fetchone() != (True,):
            assert time.monotonic() < until, "the lock of a session that has ended is kept"
            time.sleep(0.05)


def test_timeout():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("SET statement_timeout = '200ms'")
        try:
            one.execute("SELECT pg_sleep(20)")
        except errors.QueryCanceled as error:
            refused("57014", error)
        two.execute("SELECT pg_sleep(0.4)")
        expect(one.execute("SHOW statement_timeout").fetchone(), ("200ms",))
    with connect(options="-c statement_timeout=100") as conn:
        try:
            conn.execute("SELECT pg_sleep(20)")
        except errors.QueryCanceled as error:
            refused("57014", error)


def test_ddl():
    with connect(autocommit=True, prepare_threshold=0) as one, connect(autocommit=True) as two:
        two.execute("DROP TABLE IF EXISTS psycopg_ddl")
        two.execute("CREATE TABLE psycopg_ddl (a int)")
        two.execute("INSERT INTO psycopg_ddl VALUES (1)")
        for _ in range(3):
            expect(one.execute("SELECT a FROM psycopg_ddl").fetchone(), (1,))
        two.execute("ALTER TABLE psycopg_ddl ADD b int DEFAULT 2")
        expect(one.execute("SELECT a FROM psycopg_ddl").fetchone(), (1,))
        expect(one.execute("SELECT * FROM psycopg_ddl").fetchone(), (1, 2))
        two.execute("ALTER TABLE psycopg_ddl ADD c int DEFAULT 3")
        # Its own statement is older than the change: what a server would say without a proxy.
        try:
            one.execute("SELECT * FROM psycopg_ddl")
        except errors.FeatureNotSupported as error:
            refused("0A000", error)
        else:
            raise AssertionError("a plan that went stale was healed for who prepared it before")
        # Who prepares now has the new one.
        with connect(autocommit=True, prepare_threshold=0) as three:
            expect(three.execute("SELECT * FROM psycopg_ddl").fetchone(), (1, 2, 3))


def test_notify():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("LISTEN psycopg_heard")
        two.execute("SELECT pg_notify('psycopg_heard', 'payload')")
        with two.transaction(force_rollback=True):
            two.execute("NOTIFY psycopg_heard, 'never'")
        two.execute("NOTIFY psycopg_heard, 'last'")
        heard = [notice.payload for notice in one.notifies(timeout=10, stop_after=2)]
        expect(heard, ["payload", "last"])
        one.execute("UNLISTEN *")


def work(number, until, problems):
    """A client of many: its settings, its names and its rows are its own."""
    try:
        with connect(autocommit=True, prepare_threshold=0, application_name=f"client {number}") as conn:
            conn.execute("SET work_mem = %s" % (3000 + number))
            turn = 0
            while time.monotonic() < until:
                turn += 1
                expect(conn.execute("SELECT %s::int, current_setting('work_mem')", [number]).fetchone(),
                       (number, f"{3000 + number}kB"))
                with conn.transaction():
                    conn.execute("INSERT INTO psycopg_many VALUES (%s, %s)", [number, turn])
                    expect(conn.execute("SELECT max(turn) FROM psycopg_many WHERE client = %s", [number]).fetchone(), (turn,))
                    try:
                        with conn.transaction():
                            conn.execute(f"SELECT 1 / (%s::int - %s), {number}", [turn, turn])
                    except errors.DivisionByZero:
                        pass
                expect(conn.execute("SHOW application_name").fetchone(), (f"client {number}",))
            expect(conn.execute("SELECT count(*) FROM psycopg_many WHERE client = %s", [number]).fetchone(), (turn,))
    except BaseException as error:
        problems.append(f"client {number}: {error}")


def test_many():
    with connect(autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_many")
        conn.execute("CREATE TABLE psycopg_many (client int, turn int, PRIMARY KEY (client, turn))")
    problems, until = [], time.monotonic() + SECONDS
    threads = [threading.Thread(target=work, args=(number, until, problems)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, f"{len(problems)} of {CLIENTS}: {problems[0]}"


main([test_connect, test_tls, test_simple, test_extended, test_prepared, test_cursor, test_transaction, test_savepoint,
      test_pipeline, test_copy, test_notices, test_types, test_settings, test_cancel, test_large, test_two_phase, test_temporary,
      test_locks, test_timeout, test_ddl, test_notify, test_many])
