// Numbers and times as people read them.

const MINUS = "\u2212";
const NO_BREAK = "\u00a0";
const COMPASS = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"];

// JavaScript keeps a time of 2025 in nanoseconds to 256 ns; nothing here shows less than a millisecond.
export const toMs = (timeNs) => timeNs / 1e6;

const two = (number) => String(number).padStart(2, "0");

export function localTime(timeNs, decimals = 1) {
  const time = new Date(toMs(timeNs));
  const fraction = String(time.getMilliseconds()).padStart(3, "0").slice(0, decimals);
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return decimals > 0 ? `${clock}.${fraction}` : clock;
}

export function localDateTime(timeNs) {
  const time = new Date(toMs(timeNs));
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${localTime(timeNs, 3)}`;
}

// Returns the short name of the local time zone on that day, such as CET or GMT+2.
export function zoneName(timeNs) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(new Date(toMs(timeNs)));
  return parts.find((part) => part.type === "timeZoneName").value;
}

// Returns how far local time is ahead of UTC, such as UTC+5:30.
export function offsetName(timeMs) {
  const minutes = -new Date(timeMs).getTimezoneOffset();
  const size = Math.abs(minutes);
  const rest = size % 60 ? `:${two(size % 60)}` : "";
  return minutes === 0 ? "UTC" : `UTC${minutes < 0 ? MINUS : "+"}${Math.floor(size / 60)}${rest}`;
}

export const utcDateTime = (timeNs) => new Date(toMs(timeNs)).toISOString().replace("T", " ").replace("Z", "");

export function ago(timeNs, nowMs) {
  const seconds = Math.max(0, (nowMs - toMs(timeNs)) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${10 * Math.floor(seconds / 10)}${NO_BREAK}s ago`;
  return `${span(seconds)} ago`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)}${NO_BREAK}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${NO_BREAK}min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}${NO_BREAK}h`;
  return `${Math.floor(seconds / 86_400)}${NO_BREAK}d`;
}

export function unit(value, decimals, name) {
  return `${value.toFixed(decimals).replace("-", MINUS)}${NO_BREAK}${name}`;
}

export function metres(value) {
  if (value >= 10_000) return unit(value / 1000, 0, "km");
  if (value >= 1000) return unit(value / 1000, 2, "km");
  return unit(value, value < 10 ? 1 : 0, "m");
}

export function seconds(value) {
  if (value < 1e-3) return unit(value * 1e6, value < 1e-5 ? 1 : 0, "µs");
  if (value < 1) return unit(value * 1e3, value < 0.01 ? 2 : 0, "ms");
  return unit(value, 1, "s");
}

export function signedMs(valueS) {
  const text = Math.abs(valueS * 1000).toFixed(2);
  if (Number(text) === 0) return text;
  return (valueS < 0 ? MINUS : "+") + text;
}

// Never rounds up to certainty.
export const percent = (share) => `${Math.floor(Math.min(share, 0.999) * 1000 + 1e-6) / 10}${NO_BREAK}%`;

export const place = (lat, lon) => `${lat.toFixed(6)}, ${lon.toFixed(6)}`;

export const bearing = (degrees) => `${String(Math.round(degrees) % 360).padStart(3, "0")}°`;

// The wind is given as where it blows to; people name it after where it comes from.
export function wind(east, north) {
  const speed = Math.hypot(east, north);
  if (speed < 0.05) return "calm";
  const from = ((Math.atan2(-east, -north) * 180) / Math.PI + 360) % 360;
  return `${unit(speed, 1, "m/s")} from ${COMPASS[Math.round(from / 45) % 8]} (${bearing(from)})`;
}

// Each doubt stands for itself.
export const sentenceALine = (text) => text.replace(/\. (?=[A-Z])/g, ".\n");

export const count = (number, one, many = `${one}s`) => `${number}${NO_BREAK}${number === 1 ? one : many}`;
