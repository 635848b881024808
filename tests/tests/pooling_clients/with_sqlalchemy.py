"""SQLAlchemy over psycopg and over asyncpg, each with its own pool: the ORM, cursors on the server, isolation levels."""

import asyncio
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import ForeignKey, Integer, String, create_engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

CLIENTS = 6
WHERE = "{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    client: Mapped[int]
    name: Mapped[str] = mapped_column(String(40), unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.title")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def unit_of_work(session, client):
    """Flushes with RETURNING, a savepoint that fails, an update of what was loaded, a delete that cascades."""
    authors = [Author(client=client, name=f"{client}-{n}", books=[Book(title=f"{n}-{i}") for i in range(3)]) for n in range(4)]
    session.add_all(authors)
    session.flush()
    seen = [all(author.id for author in authors)]
    try:
        with session.begin_nested():
            session.add(Author(client=client, name=f"{client}-0"))
            session.flush()
    except IntegrityError as error:
        seen.append(type(error).__name__)
    session.commit()
    session.delete(authors[3])
    authors[0].books[0].title = "changed"
    session.commit()
    session.add(Author(client=client, name="never"))
    session.flush()
    session.rollback()
    loaded = session.scalars(
        select(Author).where(Author.client == client).options(selectinload(Author.books)).order_by(Author.name)).all()
    seen += [(author.name, sorted(book.title for book in author.books)) for author in loaded]
    session.rollback()
    return seen


def streamed(conn):
    """A cursor on the server, read part by part."""
    how = {"stream_results": True, "max_row_buffer": 40}
    rows = conn.execute(text("SELECT generate_series(1, 400)"), execution_options=how)
    total = sum(row[0] for row in rows)
    conn.rollback()
    return total


def isolation(engine):
    seen = []
    for level in ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"]:
        with engine.connect().execution_options(isolation_level=level) as conn:
            seen.append(conn.execute(text("SHOW transaction_isolation")).scalar())
            seen.append(conn.get_isolation_level())
    with engine.connect().execution_options(postgresql_readonly=True) as conn:
        try:
            conn.execute(text("CREATE TABLE never (i int)"))
        except DBAPIError as error:
            seen.append(error.orig.sqlstate)
    return seen


def temporary(conn):
    conn.execute(text("CREATE TEMP TABLE own (i int) ON COMMIT DROP"))
    conn.execute(text("INSERT INTO own SELECT generate_series(1, 9)"))
    total = conn.execute(text("SELECT sum(i) FROM own")).scalar()
    conn.commit()
    return total


def synchronous():
    engine = create_engine(f"postgresql+psycopg://{WHERE}", pool_size=CLIENTS, max_overflow=0, pool_pre_ping=True)
    Base.metadata.create_all(engine)
    all_there = threading.Barrier(CLIENTS)

    def work(client):
        with engine.connect() as conn:
            all_there.wait(60)
            results = [streamed(conn), temporary(conn), unit_of_work(Session(bind=conn), client)]
        return results + [isolation(engine)]

    with ThreadPoolExecutor(CLIENTS) as executor:
        for client, results in enumerate(executor.map(work, range(CLIENTS))):
            print("psycopg", client, results)
    looked = inspect(engine)
    print(sorted(looked.get_table_names()), looked.get_pk_constraint("books"), looked.get_foreign_keys("books"))
    print([(column["name"], str(column["type"])) for column in looked.get_columns("authors")])
    print(looked.get_unique_constraints("authors"), looked.get_indexes("books"))
    Base.metadata.drop_all(engine)
    engine.dispose()


async def asynchronous():
    engine = create_async_engine(f"postgresql+asyncpg://{WHERE}", pool_size=CLIENTS, max_overflow=0, pool_pre_ping=True)
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    all_there = asyncio.Barrier(CLIENTS)

    async def work(client):
        async with engine.connect() as conn:
            await asyncio.wait_for(all_there.wait(), 60)
            results = [await conn.run_sync(temporary)]
            rows = await conn.stream(text("SELECT generate_series(1, 400)"))
            results.append(sum([row[0] async for row in rows]))
            await conn.rollback()
            session = AsyncSession(bind=conn)
            results.append(await session.run_sync(unit_of_work, client))
        subprocess.run(os.environ["SETTLED"], shell=True, check=True)
        for level in ["AUTOCOMMIT", "REPEATABLE READ"]:
            async with engine.connect() as plain:
                conn = await plain.execution_options(isolation_level=level)
                results.append(await conn.scalar(text("SHOW transaction_isolation")))
                results.append(await conn.scalar(select(func.count()).select_from(Author).where(Author.client == client)))
        return results

    for client, results in enumerate(await asyncio.gather(*map(work, range(CLIENTS)))):
        print("asyncpg", client, results)
    await engine.dispose()


synchronous()
asyncio.run(asyncio.wait_for(asynchronous(), 120))
print("done")
