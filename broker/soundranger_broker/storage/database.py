"""The database: opened by its URL, brought to the newest schema, with transactions that are what they say."""

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from soundranger_node.errors import InputError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# How long (ms) a writer waits for another: longer than any batch takes, shorter than a bang may wait for its event.
BUSY_MS: Final = 5_000
# Marks a transaction that will write, so that SQLite takes its lock at once instead of failing half-way.
WRITES: Final = "soundranger_writes"
REMEDY: Final = "name a file, or a URL such as postgresql://user:password@host/database"


def database_url(where: str) -> URL:
    """Return the URL of a database: of a file of SQLite where it is no URL.

    Raises:
        InputError: it is neither, or a kind of database that we do not speak to.
    """
    if "://" not in where:
        return URL.create("sqlite", database=str(Path(where).expanduser()))
    try:
        url = make_url(where)
    except ArgumentError:
        raise InputError("the database's address", "is no URL", REMEDY) from None
    if url.get_backend_name() == "sqlite":
        return url
    if url.get_backend_name() in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    raise InputError(f"database {url.render_as_string()}", "is neither SQLite nor PostgreSQL", REMEDY)


def connect(where: str, *, create: bool = True) -> Engine:
    """Return an engine for a database, which has the newest schema.

    Raises:
        InputError: it cannot be opened, is not there and `create` is false, or is of a newer version than we are.
    """
    url = database_url(where)
    _check_file(url, create=create)
    try:
        return _migrated(_engine(url), url)
    except SQLAlchemyError as error:
        raise InputError(f"database {url.render_as_string()}", f"cannot be opened ({_reason(error)})", REMEDY) from None
    except ModuleNotFoundError:
        raise InputError(
            f"database {url.render_as_string()}", "wants the package psycopg", "pip install 'soundranger[postgresql]'"
        ) from None


def for_writing(engine: Engine) -> Engine:
    """Return an engine for the same database, of which each transaction writes."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{WRITES: True})
    # Whoever has waited for the lock of the log must see what was appended meanwhile.
    return engine.execution_options(isolation_level="READ COMMITTED")


def _check_file(url: URL, *, create: bool) -> None:
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    path = Path(url.database)
    if path.exists():
        return
    if not create:
        raise InputError(f"database {path}", "is not there", "name the one that soundranger-broker run uses")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"database {path}", f"cannot be made ({error.strerror})", REMEDY) from None


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        # One picture for the whole of a transaction, as SQLite has it.
        return sa.create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # Python would begin transactions when it thinks best; we do it ourselves, below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrated(engine: Engine, url: URL) -> Engine:
    """Return the engine once its database has the newest schema; let go of it where that fails."""
    try:
        with for_writing(engine).begin() as connection:
            _migrate(connection, url)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _migrate(connection: Connection, url: URL) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {one.revision for one in script.walk_revisions()}:
        raise InputError(
            f"database {url.render_as_string()}",
            f"has schema {current}, which this version of soundranger does not know",
            "use the version that wrote it, or a newer one",
        )
    command.upgrade(config, "head")


def _reason(error: SQLAlchemyError) -> str:
    """Return the database's own first line about an error."""
    origin = getattr(error, "orig", None) or error
    return str(origin).strip().splitlines()[0]
