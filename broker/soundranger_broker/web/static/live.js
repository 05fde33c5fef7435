// The WebSocket: keeps a connection open, and opens a new one whenever it is lost.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
// The server says something at least every 15 s; a phone that slept does not notice a dead connection otherwise.
const SILENCE_MS = 40_000;

export function connect(url, onMessage, onState) {
  let socket = null;
  let waitMs = FIRST_WAIT_MS;
  let retry = 0;
  let silence = 0;

  function open() {
    clearTimeout(retry);
    const opened = new WebSocket(url);
    socket = opened;
    watch();
    opened.onmessage = ({ data }) => {
      if (socket !== opened) return;
      watch();
      waitMs = FIRST_WAIT_MS;
      onMessage(JSON.parse(data));
      onState("live");
    };
    opened.onclose = () => {
      if (socket === opened) lost();
    };
  }

  function watch() {
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE_MS);
  }

  function lost() {
    clearTimeout(silence);
    const old = socket;
    socket = null;
    old.close();
    onState("reconnecting");
    // Many pages must not come back in the same instant.
    retry = setTimeout(open, waitMs * (0.75 + Math.random() / 2));
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }

  function hurry() {
    if (socket === null && document.visibilityState === "visible") open();
  }

  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);
  open();
}
