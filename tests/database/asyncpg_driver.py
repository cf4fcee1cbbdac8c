"""asyncpg through a pool that has fewer connections than there are clients."""

import asyncio
import io
import ssl
import time
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import asyncpg

from scenario import AUTHORITY, CLIENTS, LARGE_ROWS, SECONDS, Refused, expect, main, refused


async def connect(**options):
    return await asyncpg.connect(**options)


async def test_connect():
    one = await connect(server_settings={"application_name": "first", "geqo": "off"})
    expect(await one.fetchval("SHOW application_name"), "first")
    expect(await one.fetchval("SHOW geqo"), "off")
    expect(one.get_server_version().major, 15)
    expect(one.get_settings().integer_datetimes, "on")
    await one.close()
    try:
        await connect(password="wrong")
    except asyncpg.InvalidPasswordError as error:
        refused("28P01", error)
    else:
        raise AssertionError("a wrong password was let in")


async def test_tls():
    if not AUTHORITY:
        raise Refused("no TLS here")
    conn = await connect(host="localhost", ssl=ssl.create_default_context(cafile=AUTHORITY))
    expect(await conn.fetchval("SELECT repeat('x', 1000000)"), "x" * 1000000)
    await conn.close()
    conn = await connect(ssl=False)
    expect(await conn.fetchval("SELECT 1"), 1)
    await conn.close()


async def test_simple():
    conn = await connect()
    expect(await conn.execute("SELECT 1; SELECT 2; CREATE TEMP TABLE asyncpg_simple (n int)"), "CREATE TABLE")
    expect(await conn.execute("INSERT INTO asyncpg_simple VALUES (1), (2)"), "INSERT 0 2")
    await conn.close()


async def test_extended():
    conn = await connect(statement_cache_size=0)
    for n in range(20):
        row = await conn.fetchrow("SELECT $1::int AS n, $2::text AS t", n, "seven")
        expect((row["n"], row["t"]), (n, "seven"))
    try:
        await conn.fetchval("SELECT 1 / $1::int", 0)
    except asyncpg.DivisionByZeroError as error:
        refused("22012", error)
    blob = bytes(range(256)) * 4000
    expect(await conn.fetchval("SELECT $1::bytea", blob), blob)
    await conn.close()


async def test_prepared():
    conn = await connect(statement_cache_size=5)
    for turn in range(3):
        for number in range(30):
            expect(await conn.fetchval(f"SELECT $1::int + {number}", turn), turn + number)
    kept = [await conn.prepare(f"SELECT $1::int * {number}") for number in range(100)]
    for turn in range(2):
        expect([await statement.fetchval(2) for statement in kept], [2 * number for number in range(100)])
    for number in range(20):
        try:
            await conn.fetchval(f"SELECT $1::int / 0 + {number}", 1)
        except asyncpg.DivisionByZeroError:
            pass
    await conn.execute("DEALLOCATE ALL")
    try:
        await kept[0].fetchval(1)
    except asyncpg.InvalidSQLStatementNameError as error:
        refused("26000", error)
    else:
        raise AssertionError("a statement outlived DEALLOCATE ALL")
    await conn.close()


async def test_cursor():
    conn = await connect()
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("SELECT n FROM generate_series(1, 10000) n", prefetch=100):
            total += row[0]
        expect(total, 10000 * 10001 // 2)
        cursor = await conn.cursor("SELECT n FROM generate_series(1, 100) n")
        expect([row[0] for row in await cursor.fetch(3)], [1, 2, 3])
        await cursor.forward(10)
        expect((await cursor.fetchrow())[0], 14)
    await conn.close()


async def test_transaction():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_tx; CREATE TABLE asyncpg_tx (n int PRIMARY KEY)")
    transaction = conn.transaction(isolation="serializable", readonly=True)
    await transaction.start()
    try:
        await conn.execute("INSERT INTO asyncpg_tx VALUES (1)")
    except asyncpg.ReadOnlySQLTransactionError as error:
        refused("25006", error)
    try:
        await conn.fetchval("SELECT 1")
    except asyncpg.InFailedSQLTransactionError as error:
        refused("25P02", error)
    await transaction.rollback()
    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO asyncpg_tx VALUES (2)")
            raise KeyError("taken back")
    except KeyError:
        pass
    expect(await conn.fetchval("SELECT count(*) FROM asyncpg_tx"), 0)
    async with conn.transaction(deferrable=True, readonly=True, isolation="serializable"):
        expect(await conn.fetchval("SHOW transaction_isolation"), "serializable")
    await conn.close()


async def test_savepoint():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_sp; CREATE TABLE asyncpg_sp (n int PRIMARY KEY)")
    async with conn.transaction():
        for n in range(20):
            try:
                async with conn.transaction():
                    await conn.execute("INSERT INTO asyncpg_sp VALUES ($1)", n // 2)
            except asyncpg.UniqueViolationError as error:
                expect(error.constraint_name, "asyncpg_sp_pkey")
    expect(tuple(await conn.fetchrow("SELECT count(*), max(n) FROM asyncpg_sp")), (10, 9))
    await conn.close()


async def test_pipeline():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_pipe; CREATE TABLE asyncpg_pipe (n int PRIMARY KEY, t text)")
    await conn.executemany("INSERT INTO asyncpg_pipe VALUES ($1, $2)", [(n, "x" * 1000) for n in range(5000)])
    expect(await conn.fetchval("SELECT count(*) FROM asyncpg_pipe"), 5000)
    # The server refuses early what the client still sends, megabytes of it.
    try:
        await conn.executemany("INSERT INTO asyncpg_pipe VALUES ($1, $2)", [(n, "x" * 40000) for n in range(4990, 5200)])
    except asyncpg.UniqueViolationError as error:
        refused("23505", error)
    expect(await conn.fetchval("SELECT count(*) FROM asyncpg_pipe"), 5000)
    await conn.close()


async def test_copy():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_copy; CREATE TABLE asyncpg_copy (n int, t text)")
    records = [(n, f"row\t{n}\n\\") for n in range(20000)]
    expect(await conn.copy_records_to_table("asyncpg_copy", records=records), "COPY 20000")
    out = io.BytesIO()
    expect(await conn.copy_from_table("asyncpg_copy", output=out, format="binary"), "COPY 20000")
    out.seek(0)
    expect(await conn.copy_to_table("asyncpg_copy", source=out, format="binary"), "COPY 20000")
    expect(await conn.fetchval("SELECT sum(n) FROM asyncpg_copy"), 20000 * 19999)
    try:
        await conn.copy_to_table("asyncpg_copy", source=io.BytesIO(b"no number\trow\n"))
    except asyncpg.InvalidTextRepresentationError as error:
        refused("22P02", error)

    async def broken():
        yield b"1\trow\n"
        raise KeyError("the client gives up")

    try:
        await conn.copy_to_table("asyncpg_copy", source=broken())
    except KeyError:
        pass
    expect(await conn.fetchval("SELECT count(*) FROM asyncpg_copy"), 40000)
    await conn.close()


async def test_notices():
    conn, heard = await connect(), []
    conn.add_log_listener(lambda _, message: heard.append((message.severity, message.message)))
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'hear %', 1; RAISE WARNING 'two'; END $$")
    await asyncio.sleep(0.1)
    expect(heard, [("NOTICE", "hear 1"), ("WARNING", "two")])
    await conn.close()


async def test_types():
    conn = await connect()
    now = datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=timezone.utc)
    cases = [("bool", True), ("int2", -5), ("int8", 1 << 62), ("float8", 0.1), ("numeric", Decimal("123456789.987654321")),
             ("text", "é€𝄞'\""), ("bytea", b"\x00\xff"), ("date", date(2024, 2, 29)), ("timestamptz", now), ("uuid", UUID(int=77)),
             ("interval", timedelta(days=3, seconds=5)), ("int4[]", [1, None, 3]), ("text[]", ["a,b", 'c"d']), ("jsonb", '{"a": 1}'),
             ("int4range", asyncpg.Range(1, 10)), ("point", asyncpg.Point(1, 2)), ("text", None)]
    for cast, value in cases:
        expect(await conn.fetchval(f"SELECT $1::{cast}", value), value)
    await conn.execute("DROP TYPE IF EXISTS asyncpg_mood; DROP TYPE IF EXISTS asyncpg_pair")
    await conn.execute("CREATE TYPE asyncpg_mood AS ENUM ('good', 'bad'); CREATE TYPE asyncpg_pair AS (a int, b text)")
    row = await conn.fetchrow("SELECT 'bad'::asyncpg_mood, (7, 'x')::asyncpg_pair, array[(8, 'y')::asyncpg_pair]")
    expect((row[0], tuple(row[1]), tuple(row[2][0])), ("bad", (7, "x"), (8, "y")))
    await conn.close()


async def test_settings():
    one, two = await connect(), await connect(server_settings={"search_path": "pg_catalog"})
    await one.execute("SET timezone = 'Asia/Tokyo'; SET search_path = public")
    for _ in range(20):
        expect(await one.fetchval("SHOW timezone"), "Asia/Tokyo")
        expect(one.get_settings().TimeZone, "Asia/Tokyo")
        assert await two.fetchval("SHOW timezone") != "Asia/Tokyo"
        expect(await two.fetchval("SHOW search_path"), "pg_catalog")
    await two.execute("SET search_path = public")
    await two.reset()
    expect(await two.fetchval("SHOW search_path"), "pg_catalog")
    async with one.transaction():
        await one.execute("SET LOCAL timezone = 'Europe/Berlin'")
        expect(await one.fetchval("SHOW timezone"), "Europe/Berlin")
    expect(await one.fetchval("SHOW timezone"), "Asia/Tokyo")
    await one.close()
    await two.close()


async def test_cancel():
    conn = await connect()
    for _ in range(5):
        try:
            await asyncio.wait_for(conn.fetchval("SELECT pg_sleep(20)"), 0.1)
        except asyncio.TimeoutError:
            pass
        expect(await conn.fetchval("SELECT 5"), 5)
    async with conn.transaction():
        try:
            async with conn.transaction():
                await conn.fetchval("SELECT pg_sleep(20)", timeout=0.1)
        except asyncio.TimeoutError:
            pass
        expect(await conn.fetchval("SELECT 6"), 6)
    await conn.close()


async def test_large():
    conn, total = await connect(), 0
    async with conn.transaction():
        text = "SELECT n, repeat('x', 992) AS t FROM generate_series(1, $1) n"
        async for row in conn.cursor(text, LARGE_ROWS, prefetch=1000):
            total += len(row["t"])
    expect(total, LARGE_ROWS * 992)
    # All at once, which the driver holds and the proxy must not.
    out = [0]

    async def count(data):
        out[0] += len(data)

    await conn.copy_from_query("SELECT repeat('x', 999) FROM generate_series(1, $1)", LARGE_ROWS, output=count)
    expect(out[0], LARGE_ROWS * 1000)
    await conn.close()


async def test_two_phase():
    one, two = await connect(), await connect()
    await one.execute("DROP TABLE IF EXISTS asyncpg_2pc; CREATE TABLE asyncpg_2pc (n int)")
    for ends, count in (("COMMIT", 1), ("ROLLBACK", 1)):
        await one.execute("BEGIN")
        await one.execute("INSERT INTO asyncpg_2pc VALUES (1)")
        await one.execute("PREPARE TRANSACTION 'asyncpg'")
        await two.execute(f"{ends} PREPARED 'asyncpg'")
        expect(await one.fetchval("SELECT count(*) FROM asyncpg_2pc"), count)
    await one.close()
    await two.close()


async def test_temporary():
    one, two = await connect(), await connect()
    for conn, value in ((one, 1), (two, 2)):
        await conn.execute("CREATE TEMP TABLE asyncpg_temp (n int)")
        await conn.execute("INSERT INTO asyncpg_temp VALUES ($1)", value)
    for _ in range(10):
        expect(await one.fetchval("SELECT n FROM asyncpg_temp"), 1)
        expect(await two.fetchval("SELECT n FROM asyncpg_temp"), 2)
    await one.close()
    await two.close()


async def test_locks():
    one, two = await connect(), await connect()
    await one.fetchval("SELECT pg_advisory_lock(4712)")
    for _ in range(10):
        expect(await two.fetchval("SELECT pg_try_advisory_lock(4712)"), False)
    # What the pool of the driver does when a connection comes back.
    await one.reset()
    expect(await two.fetchval("SELECT pg_try_advisory_lock(4712)"), True)
    await one.close()
    await two.close()


async def test_timeout():
    one, two = await connect(server_settings={"statement_timeout": "200"}), await connect()
    try:
        await one.fetchval("SELECT pg_sleep(20)")
    except asyncpg.QueryCanceledError as error:
        refused("57014", error)
    await two.fetchval("SELECT pg_sleep(0.4)")
    expect(await one.fetchval("SHOW statement_timeout"), "200ms")
    await one.close()
    await two.close()


async def test_pool():
    async with asyncpg.create_pool(min_size=2, max_size=20) as pool:
        async def use(number):
            async with pool.acquire() as conn:
                await conn.execute(f"SET work_mem = '{3000 + number}kB'")
                expect(await conn.fetchval("SHOW work_mem"), f"{3000 + number}kB")
                return await conn.fetchval("SELECT $1::int", number)

        for _ in range(5):
            expect(await asyncio.gather(*(use(number) for number in range(64))), list(range(64)))
        async with pool.acquire() as conn:
            expect(await conn.fetchval("SHOW work_mem"), "4MB")
            await conn.execute("DISCARD ALL")


async def test_ddl():
    one, two, three = await connect(), await connect(), await connect()
    await one.execute("DROP TABLE IF EXISTS asyncpg_ddl; CREATE TABLE asyncpg_ddl (a int, b int)")
    await one.execute("INSERT INTO asyncpg_ddl VALUES (1, 2)")
    for conn in (two, three):
        expect(tuple(await conn.fetchrow("SELECT * FROM asyncpg_ddl")), (1, 2))
        await conn.execute("SELECT 1")
    # Which of the connections to the server each of them is on afterwards is left to chance: all of them are kept busy.
    holders = [await connect() for _ in range(3)]
    for round in range(6):
        kind = "text" if round % 2 == 0 else "int USING b::int"
        await one.execute(f"ALTER TABLE asyncpg_ddl ALTER b TYPE {kind}")
        wanted = (1, "2") if round % 2 == 0 else (1, 2)
        held = [holder.transaction() for holder in holders[: round % 4]]
        for transaction in held:
            await transaction.start()
        for conn, holder in zip((one, two, three), holders):
            # The driver prepares anew when it hears that its plan is stale, and reads rubbish if it does not.
            expect(tuple(await conn.fetchrow("SELECT * FROM asyncpg_ddl")), wanted)
        for transaction in held:
            await transaction.rollback()
    for conn in (one, two, three, *holders):
        await conn.close()


async def test_notify():
    one, two = await connect(), await connect()
    heard = asyncio.Queue()
    await one.add_listener("asyncpg_heard", lambda *what: heard.put_nowait(what[3]))
    await two.execute("NOTIFY asyncpg_heard, 'payload'")
    await two.fetchval("SELECT pg_notify('asyncpg_heard', $1)", "last")
    expect([await asyncio.wait_for(heard.get(), 10) for _ in range(2)], ["payload", "last"])
    await one.reset()
    await one.close()
    await two.close()


async def work(number, until):
    """A client of many: its settings, its names and its rows are its own."""
    conn = await connect(server_settings={"application_name": f"client {number}"})
    await conn.execute(f"SET work_mem = '{3000 + number}kB'")
    turn = 0
    while time.monotonic() < until:
        turn += 1
        row = await conn.fetchrow("SELECT $1::int, current_setting('work_mem')", number)
        expect(tuple(row), (number, f"{3000 + number}kB"))
        async with conn.transaction():
            await conn.execute("INSERT INTO asyncpg_many VALUES ($1, $2)", number, turn)
            expect(await conn.fetchval("SELECT max(turn) FROM asyncpg_many WHERE client = $1", number), turn)
            try:
                async with conn.transaction():
                    await conn.fetchval(f"SELECT 1 / ($1::int - $2), {number}", turn, turn)
            except asyncpg.DivisionByZeroError:
                pass
        expect(await conn.fetchval("SHOW application_name"), f"client {number}")
    expect(await conn.fetchval("SELECT count(*) FROM asyncpg_many WHERE client = $1", number), turn)
    await conn.close()


async def test_many():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_many")
    await conn.execute("CREATE TABLE asyncpg_many (client int, turn int, PRIMARY KEY (client, turn))")
    await conn.close()
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(work(number, until) for number in range(CLIENTS)))


main([test_connect, test_tls, test_simple, test_extended, test_prepared, test_cursor, test_transaction, test_savepoint,
      test_pipeline, test_copy, test_notices, test_types, test_settings, test_cancel, test_large, test_two_phase, test_temporary,
      test_locks, test_timeout, test_pool, test_ddl, test_notify, test_many])
