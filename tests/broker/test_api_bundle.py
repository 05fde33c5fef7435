"""The bundle over HTTP: the same that the command writes, with a name that a browser can save it under."""

from pathlib import Path

import httpx
from fastapi import FastAPI
from tests.broker.conftest import Town
from tests.broker.evidence_case import MADE_NS, keep_a_bang

from soundranger_broker.evidence.verify import verify
from soundranger_broker.storage.store import Store
from soundranger_broker.web.api_bundle import bundle_router
from soundranger_broker.web.problems import tell_problems
from soundranger_broker.web.server import serve


def test_a_bundle_is_given_out_and_holds(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "centre.db"))
    kept = keep_a_bang(store, Town())
    app = FastAPI()
    app.include_router(bundle_router(store, lambda: MADE_NS), prefix="/api/1")
    tell_problems(app)
    page = serve(app, "127.0.0.1", 0)
    with httpx.Client(base_url=f"http://127.0.0.1:{page.port}") as client:
        answer = client.get(f"/api/1/events/{kept.event.id}/bundle")
        missing = client.get("/api/1/events/no-such-event/bundle")
        schema = client.get("/openapi.json").json()
    page.stop()
    assert (answer.status_code, missing.status_code) == (200, 404)
    assert missing.json()["detail"] == "There is no event no-such-event."
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{kept.event.id}.zip"'
    assert "application/zip" in schema["paths"]["/api/1/events/{event}/bundle"]["get"]["responses"]["200"]["content"]
    path = tmp_path / "bundle.zip"
    path.write_bytes(answer.content)
    assert verify(path, store.head()).agree
    store.close()
