"""The API's exports: all events that are asked for in one file; the log keeps who could have known what."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Final

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from soundranger_broker.storage import reading
from soundranger_broker.storage.reading import Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.web.asking import wanted
from soundranger_broker.web.export import FORMATS, Format, Writer

# What is larger waits on the disk for whoever fetches it.
IN_MEMORY_BYTES: Final = 4_000_000
PIECE_BYTES: Final = 65_536


def export_router(store: Store, now_ns: Callable[[], int]) -> APIRouter:
    """Return the routes that export from a store."""
    router = APIRouter(prefix="/export", tags=["export"], default_response_class=Response)
    for ending, form in FORMATS.items():
        _add(router, store, now_ns, f"events.{ending}", form)
    return router


def _add(router: APIRouter, store: Store, now_ns: Callable[[], int], name: str, form: Format) -> None:
    @router.get(
        f"/{name}",
        name=f"export_{name.replace('.', '_')}",
        responses=form.answers,
    )
    def export(asked: Annotated[Wanted, Depends(wanted)]) -> Response:
        """Export events, the oldest first; the log keeps the hash of what was sent."""
        # Written whole before any of it is sent: whoever fetches it slowly holds up no database, and an export that
        # cannot be logged is not sent.
        file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it has been sent
        try:
            body = _write(store, file, asked, form.writer)
            size = file.tell()
            store.log("export", name, body, now_ns())
        except BaseException:
            file.close()
            raise
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
        return StreamingResponse(_pieces(file), 200, headers, form.media_type, BackgroundTask(file.close))


def _write(store: Store, file: IO[bytes], asked: Wanted, writer: Writer) -> dict[str, object]:
    """Write a file; return what the log is to say of it."""
    digest = hashlib.sha256()
    with store.engine.begin() as connection:
        events = reading.count(connection, asked)
        for piece in writer(reading.all_events(connection, asked)):
            content = piece.encode()
            digest.update(content)
            file.write(content)
    conditions = {name: value for name, value in asdict(asked).items() if value not in (None, ())}
    return {"events": events, "sha256": digest.hexdigest(), "asked": conditions}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        yield piece
