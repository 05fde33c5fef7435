"""Figures for Prometheus, in its text format: how the centre is doing, and how much is stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import APIRouter, Response

from soundranger_broker.storage import sizes
from soundranger_broker.storage.store import Store
from soundranger_broker.web.answers import sent
from soundranger_broker.web.hub import Hub
from soundranger_node.messages import CentreStatus, NodeStatus

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """A figure, or one of each of several labels: `samples` go by the label's value, "" where there is none."""

    name: str
    kind: Literal["counter", "gauge"]
    about: str
    samples: dict[str, float]
    label: str = ""

    def __str__(self) -> str:
        name = f"soundranger_{self.name}"
        lines = [f"# HELP {name} {self.about}", f"# TYPE {name} {self.kind}"]
        lines += [f"{name}{self._labelled(value)} {sample}" for value, sample in self.samples.items()]
        return "\n".join(lines) + "\n"

    def _labelled(self, value: str) -> str:
        if not self.label:
            return ""
        escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        return f'{{{self.label}="{escaped}"}}'


def metrics_router(hub: Hub, store: Store | None) -> APIRouter:
    """Return the route that tells the figures of a hub and, where there is one, a store."""
    router = APIRouter(tags=["metrics"], default_response_class=Response)

    @router.get("/metrics", responses=sent("text/plain"), operation_id="metrics")
    def metrics() -> Response:
        """Tell Prometheus how the centre is doing."""
        with hub.lock:
            nodes = list(hub.picture.nodes.values())
            centre, figures = hub.picture.centre, hub.picture.figures
        told = list(_of_nodes(nodes))
        if centre is not None:
            told += _of_centre(centre)
        if figures is not None and figures.delay_s is not None:
            about = "Time from the last bang until it was told of."
            told.append(Metric("last_event_delay_seconds", "gauge", about, {"": figures.delay_s}))
        if store is not None:
            told += _of_store(store)
        return Response("".join(map(str, told)), media_type=MEDIA_TYPE)

    return router


def _of_nodes(nodes: list[NodeStatus]) -> Iterator[Metric]:
    yield Metric("nodes_known", "gauge", "Nodes that have said how they are.", {"": len(nodes)})
    yield Metric("nodes_online", "gauge", "Nodes that are connected.", {"": sum(node.online for node in nodes)})


def _of_centre(centre: CentreStatus) -> Iterator[Metric]:
    yield Metric("centre_online", "gauge", "Whether the centre runs.", {"": int(centre.online)})
    yield Metric("detections_total", "counter", "Detections that came in.", {"": centre.detections})
    dropped: dict[str, float] = {**(centre.dropped or {})}
    yield Metric("dropped_total", "counter", "Messages that were dropped, by the reason.", dropped, "reason")
    yield Metric("events_total", "counter", "Events that were told, each once.", {"": centre.events})
    yield Metric("events_retracted_total", "counter", "Events that were taken back.", {"": centre.retracted})
    yield Metric("refused_total", "counter", "Groups of sounds that no event was made of.", {"": centre.refused})


def _of_store(store: Store) -> Iterator[Metric]:
    with store.engine.begin() as connection:
        counted: dict[str, float] = {**sizes.rows(connection)}
        size = sizes.total_bytes(connection)
    yield Metric("log_entries_total", "counter", "The number of the log's newest entry.", {"": store.head().seq})
    yield Metric("stored_rows", "gauge", "Rows that are stored, by their kind.", counted, "kind")
    yield Metric("stored_bytes", "gauge", "The size of the database.", {"": size})
