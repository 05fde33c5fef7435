// A sign on the map: an element of ours that Leaflet moves about.

export function addSign(map, pane, place, sign, options = {}) {
  const icon = L.divIcon({ html: sign, className: "sign-anchor", iconSize: [0, 0] });
  return L.marker([place.lat, place.lon], { icon, pane, keyboard: false, interactive: false, ...options }).addTo(map);
}

// What happened long ago fades, down to a third.
const FADE_MS = 30 * 60_000;
const FAINTEST = 0.3;

export function faded(timeNs, nowMs) {
  const ageMs = Math.max(0, nowMs - timeNs / 1e6);
  return (FAINTEST + (1 - FAINTEST) * Math.exp(-ageMs / FADE_MS)).toFixed(2);
}

// Keeps one drawing a message: draws new ones, updates those that changed, removes those that are gone.
export function keep(drawings, messages, idOf, draw, update, remove) {
  const gone = new Map(drawings);
  for (const message of messages) {
    const id = idOf(message);
    gone.delete(id);
    if (!drawings.has(id)) drawings.set(id, draw(message));
    update(drawings.get(id), message);
  }
  for (const [id, drawing] of gone) {
    remove(drawing);
    drawings.delete(id);
  }
}
