"""The commands about the store: backup, restore, and the audit of the log."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from soundranger_broker.storage.chain import Head
from soundranger_node.errors import InputError

# Where a service keeps its state; `systemd` makes the folder and names it.
SYSTEM_FOLDER: Final = Path("/var/lib/soundranger-broker")
SOMETHING_IS_WRONG: Final = 1
FILE_NAME: Final = "centre.db"
PROGRESS_EVERY_S: Final = 0.2

_messages = Console(stderr=True, highlight=False)

Database = Annotated[
    str | None,
    typer.Option(
        envvar="SOUNDRANGER_DATABASE",
        help="File of SQLite, or URL of PostgreSQL. Default: centre.db where this user keeps such things.",
    ),
]

audit_app = typer.Typer(help="Look into the log that nobody can edit unseen.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(backup)
    app.command()(restore)
    app.add_typer(audit_app, name="audit")


def default_database(environment: Mapping[str, str]) -> str:
    """Return where the centre's memory is when nobody says: of a service, or of a user."""
    if "STATE_DIRECTORY" in environment:
        return str(Path(environment["STATE_DIRECTORY"].split(":")[0]) / FILE_NAME)
    if os.getuid() == 0:
        return str(SYSTEM_FOLDER / FILE_NAME)
    home = environment.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return str(Path(home) / "soundranger-broker" / FILE_NAME)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write the copy: a new file.")], database: Database = None
) -> None:
    """Copy the centre's memory, as of this moment, into one file; the centre may go on running."""
    from soundranger_broker.storage import backup as work  # noqa: PLC0415 - the database takes a while to import
    from soundranger_broker.storage.store import Store  # noqa: PLC0415

    store = Store.open(database or default_database(os.environ), create=False)
    with _shown() as progress:
        work.backup(store.engine, file, progress)
    store.close()
    _messages.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="The copy that `backup` wrote.")], database: Database = None
) -> None:
    """Fill an empty database from a backup."""
    from soundranger_broker.storage import backup as work  # noqa: PLC0415 - the database takes a while to import
    from soundranger_broker.storage.store import Store  # noqa: PLC0415

    where = database or default_database(os.environ)
    store = Store.open(where)
    with _shown() as progress:
        work.restore(file, store.engine, progress)
    store.close()
    _messages.print(f"{file} is restored", markup=False)


@audit_app.command()
def verify(
    database: Database = None,
    head: Annotated[
        str | None, typer.Option(help="An entry that was noted earlier, as NUMBER:HASH: it must still be there.")
    ] = None,
) -> None:
    """Find any edit, deletion or new order in the log, and anything stored that is not as it was logged.

    Ends with status 1 where something is wrong.
    """
    from soundranger_broker.storage import audit  # noqa: PLC0415 - the database takes a while to import
    from soundranger_broker.storage.store import Store  # noqa: PLC0415

    noted = None if head is None else parse_head(head)
    store = Store.open(database or default_database(os.environ), create=False)
    wrong = 0
    with store.engine.begin() as connection:
        for problem in audit.verify(connection, noted):
            typer.echo(problem)
            wrong += 1
    newest = store.head()
    store.close()
    if wrong:
        raise typer.Exit(SOMETHING_IS_WRONG)
    typer.echo(f"All {newest.seq} entries hold, and all that is stored is as it was logged. Newest entry: {newest}")


def parse_head(text: str) -> Head:
    """Return the entry that is named as NUMBER:HASH.

    Raises:
        InputError: it is not named so.
    """
    number, _, content = text.partition(":")
    if not number.isdecimal() or len(content) != len(Head().hash):
        raise InputError(f"entry {text!r}", "is not NUMBER:HASH", "give it as `audit verify` and the page show it")
    return Head(int(number), content)


@contextmanager
def _shown() -> Iterator[Callable[[str, int], None]]:
    """Yield what shows, now and then, how many rows of a table were copied."""
    last_s = 0.0
    with _messages.status("copying ...") as status:

        def show(table: str, rows: int) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s > PROGRESS_EVERY_S:
                last_s = now_s
                status.update(f"copying {table}: {rows}")

        yield show
