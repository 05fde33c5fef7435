// Wires the page: what the socket says goes into the picture, the picture onto the map and into the panel.

import { eventLink, nodeLink, selection } from "./address.js";
import { Clips } from "./clips.js";
import { Details } from "./details.js";
import { element } from "./dom.js";
import { EventListView } from "./event-list.js";
import { EventView } from "./event-view.js";
import { localTime, metres, percent, seconds } from "./format.js";
import { History } from "./history.js";
import { IncidentListView, IncidentView } from "./incident-views.js";
import { key } from "./key.js";
import { connect } from "./live.js";
import { EventMap } from "./map.js";
import { NodeListView, NodeView } from "./node-views.js";
import { Panel } from "./panel.js";
import { health, Picture } from "./picture.js";
import { QualityView } from "./quality-view.js";
import { ReviewView } from "./review-view.js";
import { SearchView } from "./search-view.js";
import { listenForKeys, showHelp } from "./shortcuts.js";

const CONNECTION = { live: "live", reconnecting: "reconnecting…" };
// How often ages, health and what takes its leave are looked at again.
const REFRESH_MS = 5000;
// The views that ask for the past.
const ASKING = ["search", "review", "quality"];
const VERDICT_KEYS = { g: "gunshot", f: "fireworks", o: "other", u: "unsure" };

const byId = (id) => document.getElementById(id);
const picture = new Picture();
const history = new History(picture, refresh);
const map = new EventMap(byId("map"), (kind, id) => {
  location.hash = kind === "event" ? eventLink(id) : nodeLink(id);
});
const zoom = (message) => map.zoomTo(message);
const details = new Details(picture, refresh);
const eventView = new EventView({ picture, details, clips: new Clips(refresh), map, zoom, refresh });
const review = new ReviewView(eventView, { refresh, say, help: showHelp });
const views = {
  events: new EventListView(),
  nodes: new NodeListView(),
  incidents: new IncidentListView(refresh),
  event: eventView,
  node: new NodeView(zoom),
  incident: new IncidentView(picture, refresh),
  search: new SearchView(map, refresh),
  review,
  quality: new QualityView(refresh),
};
const panel = new Panel(byId("content"), views);
let clockOffsetMs = 0;
let unannounced = [];
let isDue = false;

function receive({ kind, message }) {
  if (kind === "snapshot") {
    picture.replace(message);
    map.tiles.show(message.tiles);
    history.load();
  }
  if (kind === "snapshot" || kind === "heartbeat") clockOffsetMs = message.time_ns / 1e6 - Date.now();
  if (kind === "event") {
    const isNew = !picture.events.has(message.id) && message.status !== "retracted";
    map.events.notice(message, isNew);
    if (isNew) unannounced.push(message);
  }
  picture.apply(kind, message);
  for (const part of [details, ...Object.values(views)]) part.receive?.(kind, message);
  // "Live" must not stand there before what is known does.
  if (kind === "snapshot") draw(Date.now() + clockOffsetMs);
  else refresh();
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
  if (!picture.isKnown) return;
  const state = { picture, selection: selection(), nowMs };
  byId("stage").dataset.open = state.selection.kind;
  panel.show(state);
  const events = panel.events(state) ?? picture.newestEvents();
  map.show(picture, { events, isFiltered: events !== picture.newestEvents(), ...panel.chosen(state) }, nowMs);
  for (const link of byId("views").children) {
    link.hidden = !picture.keeps && ASKING.includes(link.dataset.view);
    link.setAttribute("aria-current", link.dataset.view === state.selection.kind ? "page" : "false");
  }
  showCounts(nowMs);
  showFigures();
  announce();
}

function showCounts(nowMs) {
  const nodes = [...picture.nodes.values()];
  const online = nodes.filter((node) => health(node, nowMs) === "online").length;
  const today = picture.countSince(new Date(nowMs).setHours(0, 0, 0, 0) * 1e6);
  count(byId("node-count"), `${online}/${nodes.length} nodes`, " online");
  count(byId("event-count"), `${today}\u00a0${today === "1" ? "event" : "events"}`, " today");
}

// A phone has no room for the second part.
function count(link, figure, rest) {
  if (link.textContent === figure + rest) return;
  link.replaceChildren(figure, element("span", { class: "on-wide" }, rest));
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
  say(
    unannounced.length > 1
      ? `${unannounced.length} new events, the last at ${localTime(event.time_ns, 0)}`
      : `New event at ${localTime(event.time_ns, 0)}, within ${metres(event.ellipse95.semi_major_m)}, ` +
        `probability ${percent(event.probability)}`,
  );
  unannounced = [];
}

// Tells a sentence to who cannot see the page.
function say(text) {
  byId("announcement").textContent = text;
}

function actionOf(key) {
  const { kind } = selection();
  if (key === "?") return showHelp;
  if (key === " " && (kind === "event" || kind === "review")) return () => eventView.toggleSound();
  if (kind !== "review") return undefined;
  if (key === "j" || key === "k") return () => review.step(key === "j" ? 1 : -1);
  return VERDICT_KEYS[key] && (() => review.judge(VERDICT_KEYS[key]));
}

function showConnection(state) {
  const sign = byId("connection");
  if (sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.textContent = CONNECTION[state];
}

byId("foot").append(key());
listenForKeys(actionOf);
eventView.onJudged = (event, said) => review.judged(event, said);
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
