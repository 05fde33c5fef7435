// Wires the page: what the socket says goes into the picture, the picture onto the map and into the panel.

import { eventLink, nodeLink, selection } from "./address.js";
import { localTime, metres, percent, seconds } from "./format.js";
import { key } from "./key.js";
import { connect } from "./live.js";
import { EventMap } from "./map.js";
import { Panel } from "./panel.js";
import { health, Picture } from "./picture.js";

const CONNECTION = { live: "live", reconnecting: "reconnecting…" };
// How often ages, health and what takes its leave are looked at again.
const REFRESH_MS = 5000;

const byId = (id) => document.getElementById(id);
const picture = new Picture();
const map = new EventMap(byId("map"), (kind, id) => {
  location.hash = kind === "event" ? eventLink(id) : nodeLink(id);
});
const panel = new Panel(byId("content"), (message) => map.zoomTo(message));
let clockOffsetMs = 0;
let unannounced = [];
let isDue = false;

function receive({ kind, message }) {
  if (kind === "snapshot") {
    picture.replace(message);
    map.useTiles(message.tiles);
  }
  if (kind === "snapshot" || kind === "heartbeat") clockOffsetMs = message.time_ns / 1e6 - Date.now();
  if (kind === "event") {
    const isNew = !picture.events.has(message.id) && message.status !== "retracted";
    map.events.notice(message, isNew);
    if (isNew) unannounced.push(message);
  }
  picture.apply(kind, message);
  refresh();
}

// However much arrives at once, the page is drawn once a frame.
function refresh() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw(Date.now() + clockOffsetMs);
  });
}

function draw(nowMs) {
  const chosen = selection();
  byId("stage").dataset.open = chosen.kind;
  map.show(picture, chosen, nowMs);
  panel.show(picture, chosen, nowMs);
  showCounts(nowMs);
  showFigures();
  announce();
}

function showCounts(nowMs) {
  const nodes = [...picture.nodes.values()];
  const online = nodes.filter((node) => health(node, nowMs) === "online").length;
  const today = picture.countSince(new Date(nowMs).setHours(0, 0, 0, 0) * 1e6);
  byId("node-count").textContent = `${online}/${nodes.length} nodes online`;
  byId("event-count").textContent = `${today}\u00a0${today === "1" ? "event" : "events"} today`;
}

function showFigures() {
  const figures = picture.figures;
  if (!figures) return;
  byId("figures").textContent = [
    `${figures.detections} detections`,
    `${figures.refused} refused`,
    figures.delay_s === undefined ? null : `last event after ${seconds(figures.delay_s)}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function announce() {
  if (unannounced.length === 0) return;
  const [event] = unannounced.slice(-1);
  byId("announcement").textContent =
    unannounced.length > 1
      ? `${unannounced.length} new events, the last at ${localTime(event.time_ns, 0)}`
      : `New event at ${localTime(event.time_ns, 0)}, within ${metres(event.ellipse95.semi_major_m)}, ` +
        `probability ${percent(event.probability)}`;
  unannounced = [];
}

function showConnection(state) {
  const sign = byId("connection");
  if (sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.textContent = CONNECTION[state];
}

byId("foot").append(key());
byId("handle").addEventListener("click", () => {
  const isTall = byId("stage").classList.toggle("is-tall");
  byId("handle").setAttribute("aria-expanded", isTall);
});
addEventListener("hashchange", refresh);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.recolour());
setInterval(refresh, REFRESH_MS);

const live = new URL("live", location.href);
live.protocol = live.protocol.replace("http", "ws");
live.hash = "";
connect(live.href, receive, showConnection);
refresh();
