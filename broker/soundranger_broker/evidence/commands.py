"""The commands on evidence: `bundle`, `verify` and `examine`."""

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import track

from soundranger_broker.compiling import compile_numerics
from soundranger_broker.storage.commands import Database, default_database, parse_head
from soundranger_node.errors import InputError

# What `verify` ends with: what is in the bundle does not hold; it is no bundle at all.
DOES_NOT_HOLD: Final = 1

# Where `examine` writes unless it is told otherwise.
EXAMINED: Final = Path("examined")

_messages = Console(stderr=True, highlight=False)

Noted = Annotated[
    str | None, typer.Option("--head", help="An entry of the centre's log that you wrote down, as NUMBER:HASH.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command("bundle")(bundle_command)
    app.command("verify")(verify_command)
    app.command("examine")(examine_command)


def bundle_command(
    event: Annotated[str, typer.Argument(help="The event's id, as the map shows it.")],
    database: Database = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it. Default: EVENT.zip in this folder.")] = None,
) -> None:
    """Write the evidence bundle of an event: one ZIP file that anybody can check."""
    from soundranger_broker.evidence.bundle import bundle  # noqa: PLC0415 - the numerics take a second to import
    from soundranger_broker.storage.store import NoEventError, Store  # noqa: PLC0415

    store = Store.open(database or default_database(os.environ), create=False)
    try:
        content = bundle(store, event, time.time_ns())
    except NoEventError:
        raise InputError(f"event {event}", "is not in the database", "give the id that the map shows") from None
    finally:
        store.close()
    path = out or Path(f"{event.replace(':', '-')}.zip")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(str(path), f"cannot be written ({error.strerror})", "name a file by --out") from None
    _say(f"wrote {path} ({len(content) / 1e6:.1f} MB)")


def verify_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle: a ZIP file.")],
    head: Noted = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of sentences.")] = False,
) -> None:
    """Check a bundle, and locate its event anew from arrivals and from sound; status 1 where it does not hold."""
    from soundranger_broker.evidence.sentences import sentences  # noqa: PLC0415 - the numerics take a second to import
    from soundranger_broker.evidence.verify import verify  # noqa: PLC0415

    compile_numerics(_say)
    outcome = verify(bundle, None if head is None else parse_head(head))
    if as_json:
        typer.echo(msgspec.json.encode(outcome).decode())
    else:
        for sentence in sentences(outcome):
            typer.echo(sentence)
    if not outcome.agree:
        raise typer.Exit(DOES_NOT_HOLD)


def examine_command(
    folder: Annotated[Path, typer.Argument(help="ShotSpotter evidence WAVs of an incident, or with a recordings.csv.")],
    out: Annotated[Path, typer.Option(help="Where to write reports, events and detections: a new folder.")] = EXAMINED,
) -> None:
    """Find and locate the bangs in others' recordings: an independent second opinion."""
    from soundranger_broker.evidence.examine import (  # noqa: PLC0415 - the numerics take a second to import
        examine,
        listen,
        recordings_in,
        summary,
        write,
    )

    recordings, problems = recordings_in(folder)
    for problem in problems:
        _say(str(problem))
    shown = track(recordings, "listening", console=_messages, transient=True, disable=not _messages.is_terminal)
    listened = listen(shown, _say)
    if not listened:
        raise InputError(str(folder), "holds no recording that can be listened to", "see the lines above")
    compile_numerics(_say)
    with _messages.status("locating") if _messages.is_terminal else contextlib.nullcontext():
        cases = examine(listened, folder.resolve().name)
    page = write(out, listened, cases, folder.resolve().name)
    _say(f"{summary(listened, cases)}; read {page}")


def _say(text: str) -> None:
    _messages.print(text, markup=False, soft_wrap=True)
