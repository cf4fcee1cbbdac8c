"""SQLAlchemy, over psycopg and over asyncpg, through a pool that has fewer connections than there are clients."""

import asyncio
import os
import threading
import time

from sqlalchemy import ForeignKey, Integer, MetaData, String, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from scenario import CLIENTS, LARGE_ROWS, SECONDS, expect, main, refused

PLACE = "{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
URL = f"postgresql+psycopg://{PLACE}"


class Base(DeclarativeBase):
    metadata = MetaData()


class Author(Base):
    __tablename__ = "sqlalchemy_author"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "sqlalchemy_book"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("sqlalchemy_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def test_connect():
    engine = create_engine(URL, connect_args={"application_name": "alchemist"})
    with engine.connect() as conn:
        expect(conn.execute(text("SHOW application_name")).scalar(), "alchemist")
        expect(engine.dialect.server_version_info[0], 15)
    engine.dispose()


def test_extended():
    engine = create_engine(URL)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Author(name=f"author {n}", books=[Book(title=f"book {n}.{m}") for m in range(3)]) for n in range(50)])
        session.commit()
    with Session(engine) as session:
        found = session.scalars(select(Author).order_by(Author.id)).all()
        expect([len(author.books) for author in found], [3] * 50)
        count = session.scalar(select(func.count()).select_from(Book).join(Author).where(Author.name.like("author 1%")))
        expect(count, 33)
    expect(sorted(inspect(engine).get_table_names())[-1].startswith("sqlalchemy_"), True)
    expect([column["name"] for column in inspect(engine).get_columns("sqlalchemy_book")], ["id", "title", "author_id"])
    engine.dispose()


def test_transaction():
    engine = create_engine(URL, isolation_level="REPEATABLE READ")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Author(name="twice"))
        session.commit()
        session.add(Author(name="twice"))
        try:
            session.commit()
        except IntegrityError as error:
            refused("23505", error)
            session.rollback()
        expect(session.scalar(text("SHOW transaction_isolation")), "repeatable read")
        session.execute(text("DELETE FROM sqlalchemy_author WHERE name = 'twice'"))
        session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        expect(conn.execute(text("SELECT 1")).scalar(), 1)
    engine.dispose()


def test_savepoint():
    engine = create_engine(URL)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for n in range(20):
            try:
                with session.begin_nested():
                    session.add(Author(name=f"nested {n // 2}"))
            except IntegrityError as error:
                refused("23505", error)
        expect(session.scalar(select(func.count()).where(Author.name.like("nested%"))), 10)
        session.rollback()
    engine.dispose()


def test_two_phase():
    engine = create_engine(URL)
    Base.metadata.create_all(engine)
    with engine.connect() as conn:
        transaction = conn.begin_twophase()
        conn.execute(text("INSERT INTO sqlalchemy_author (name) VALUES ('phases')"))
        transaction.prepare()
        transaction.commit()
        expect(conn.execute(text("DELETE FROM sqlalchemy_author WHERE name = 'phases'")).rowcount, 1)
        conn.commit()
    engine.dispose()


def test_cursor():
    engine = create_engine(URL)
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as conn:
        rows = conn.execute(text("SELECT n FROM generate_series(1, 10000) n"))
        expect(sum(row.n for row in rows), 10000 * 10001 // 2)
    engine.dispose()


def test_large():
    engine = create_engine(URL)
    with engine.connect().execution_options(yield_per=1000) as conn:
        rows = conn.execute(text("SELECT repeat('x', 1000) FROM generate_series(1, :n)"), {"n": LARGE_ROWS})
        expect(sum(len(part) for part in rows.partitions()), LARGE_ROWS)
    engine.dispose()


def test_settings():
    engine = create_engine(URL, pool_size=5)

    @event.listens_for(engine, "connect")
    def first(connection, _):
        connection.autocommit = True
        connection.execute("SET timezone = 'Asia/Tokyo'")
        connection.autocommit = False

    for _ in range(10):
        with engine.connect() as conn:
            expect(conn.execute(text("SHOW timezone")).scalar(), "Asia/Tokyo")
    engine.dispose()


def test_timeout():
    engine = create_engine(URL, connect_args={"options": "-c statement_timeout=200"})
    with engine.connect() as conn:
        try:
            conn.execute(text("SELECT pg_sleep(20)"))
        except DBAPIError as error:
            refused("57014", error)
    engine.dispose()


def test_pool():
    engine = create_engine(URL, pool_size=10, max_overflow=10, pool_pre_ping=True, pool_recycle=1)
    problems = []

    def use(number):
        try:
            for turn in range(10):
                with engine.begin() as conn:
                    expect(conn.execute(text("SELECT :n + :t"), {"n": number, "t": turn}).scalar(), number + turn)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]
    engine.dispose()


def test_many():
    Base.metadata.create_all(engine := create_engine(URL))
    engine.dispose()

    async def work(engine, number, until):
        turn = 0
        while time.monotonic() < until:
            turn += 1
            async with engine.begin() as conn:
                row = (await conn.execute(text("SELECT CAST(:n AS int), :t"), {"n": number, "t": str(turn)})).one()
                expect(tuple(row), (number, str(turn)))
                await conn.execute(text("INSERT INTO sqlalchemy_author (name) VALUES (:n)"), {"n": f"{number}/{turn}"})
                await conn.execute(text("DELETE FROM sqlalchemy_author WHERE name = :n"), {"n": f"{number}/{turn}"})

    async def many():
        engine = create_async_engine(f"postgresql+asyncpg://{PLACE}", poolclass=NullPool)
        kept = create_async_engine(f"postgresql+asyncpg://{PLACE}", pool_size=CLIENTS // 2, max_overflow=0)
        until = time.monotonic() + SECONDS
        await asyncio.gather(*(work(kept if number % 8 else engine, number, until) for number in range(CLIENTS)))
        await engine.dispose()
        await kept.dispose()

    asyncio.run(many())


main([test_connect, test_extended, test_transaction, test_savepoint, test_two_phase, test_cursor, test_large, test_settings,
      test_timeout, test_pool, test_many])
