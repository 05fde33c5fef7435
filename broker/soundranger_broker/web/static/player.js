// Plays the sound at one node, and shows it: waveform above, spectrogram below, the onset marked in both.

import { clipAddress } from "./clips.js";
import { element } from "./dom.js";
import { metres } from "./format.js";
import { spectrogram } from "./spectrum.js";
import { ticks } from "./ticks.js";
import { envelope, loudest } from "./waveform.js";

const WAVE_PX = 64;
const SPECTRUM_PX = 112;
const AXIS_PX = 18;
const LEFT_PX = 30;
const PX_A_TICK = 64;
// There is hardly anything of a shot above this.
const HIGHEST_HZ = 12_000;
// Quieter than the loudest by this is black.
const RANGE_DB = 70;
// From silence to loud: dark to light, each step brighter than the one before.
const COLOURS = [
  [8, 8, 24],
  [62, 18, 98],
  [150, 42, 104],
  [222, 78, 66],
  [250, 158, 60],
  [252, 246, 190],
];

export class Player {
  // `onChoose` is told the detection whose sound a person picked.
  constructor(onChoose) {
    this.sounds = [];
    this.trace = null;
    this.drawn = null;
    this.context = null;
    this.source = null;
    this.button = element("button", { type: "button", class: "play", onclick: () => this.toggle() });
    this.choice = element("select", { "aria-label": "Node to listen to", onchange: () => onChoose(this.choice.value) });
    this.download = element("a", { class: "button", download: "" }, "FLAC");
    this.canvas = element("canvas", { role: "img" });
    this.head = element("div", { class: "play-head" });
    this.note = element("p", { class: "empty" });
    this.bar = element("div", { class: "player-bar" }, this.button, this.choice, this.download);
    this.screen = element("div", { class: "player-screen" }, this.canvas, this.head);
    this.element = element("div", { class: "player" }, this.note, this.bar, this.screen);
    new ResizeObserver(() => this._draw()).observe(this.element);
    this._showState();
  }

  // Shows one of the traces that have a sound; `why` is said where there is none.
  show(traces, chosen, why) {
    const heard = traces.filter((trace) => trace.sound);
    const trace = heard.find((one) => one.detection === chosen) ?? null;
    if (trace?.detection !== this.trace?.detection) this.stop();
    this.trace = trace;
    this.bar.hidden = trace === null;
    this.screen.hidden = !trace?.sound.buffer;
    this.note.textContent = trace ? (trace.sound.problem ?? "") : why;
    this.note.hidden = this.note.textContent === "";
    this._offer(heard);
    this._draw();
  }

  toggle() {
    if (this.source) this.stop();
    else this._play();
  }

  stop() {
    this.source?.stop();
    this.source = null;
    this._showState();
  }

  _offer(heard) {
    const key = heard.map((trace) => trace.detection).join();
    if (key !== this.offered) {
      this.offered = key;
      this.choice.replaceChildren(
        ...heard.map((trace) => element("option", { value: trace.detection }, `${trace.node}, ${metres(trace.distanceM)}`)),
      );
    }
    if (!this.trace) return;
    this.choice.value = this.trace.detection;
    this.download.href = clipAddress(this.trace.sound.clip);
    this.download.setAttribute("aria-label", `Download the sound at ${this.trace.node} (FLAC)`);
    this.button.disabled = !this.trace.sound.buffer;
  }

  _play() {
    const buffer = this.trace?.sound.buffer;
    if (!buffer) return;
    this.context ??= new AudioContext();
    this.context.resume();
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    source.onended = () => {
      if (this.source === source) this.stop();
    };
    source.start();
    this.source = source;
    this._showState();
    const startedS = this.context.currentTime;
    const follow = () => {
      if (this.source !== source) return;
      this._moveHead(Math.min(1, (this.context.currentTime - startedS) / buffer.duration));
      requestAnimationFrame(follow);
    };
    follow();
  }

  _showState() {
    const isPlaying = this.source !== null;
    this.button.textContent = isPlaying ? "Stop" : "Play";
    this.button.dataset.playing = isPlaying;
    this.head.hidden = !isPlaying;
  }

  _moveHead(share) {
    this.head.style.transform = `translateX(${LEFT_PX + share * (this.canvas.clientWidth - LEFT_PX)}px)`;
  }

  _draw() {
    const width = this.element.clientWidth;
    const buffer = this.trace?.sound.buffer;
    if (!buffer || width === 0) return;
    const key = [buffer, width, matchMedia("(prefers-color-scheme: dark)").matches];
    if (this.drawn?.every((part, index) => part === key[index])) return;
    this.drawn = key;
    draw(this.canvas, width, buffer, this.trace.onsetS);
    const onset = `the onset is ${this.trace.onsetS.toFixed(3)} s after its start`;
    this.canvas.setAttribute("aria-label", `Waveform and spectrogram of the sound at ${this.trace.node}; ${onset}`);
  }
}

function draw(canvas, width, buffer, onsetS) {
  const height = WAVE_PX + SPECTRUM_PX + AXIS_PX;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const columns = width - LEFT_PX;
  drawWave(pen, buffer, columns, colour("ink"));
  const highestHz = Math.min(HIGHEST_HZ, buffer.sampleRate / 2);
  drawSpectrum(pen, spectrogram(buffer, columns, highestHz));
  drawAxes(pen, { columns, durationS: buffer.duration, onsetS, highestHz }, colour("soft"));
  const x = LEFT_PX + (onsetS / buffer.duration) * columns;
  drawOnset(pen, x, 0, WAVE_PX, colour("high"));
  drawOnset(pen, x, WAVE_PX, WAVE_PX + SPECTRUM_PX, "#fff");
}

function drawWave(pen, buffer, columns, colour) {
  const scale = (0.48 * WAVE_PX) / loudest(buffer);
  pen.fillStyle = colour;
  envelope(buffer, 0, buffer.duration, columns).forEach((pair, column) => {
    if (!pair) return;
    const top = WAVE_PX / 2 - pair[1] * scale;
    pen.fillRect(LEFT_PX + column, top - 0.3, 1, Math.max(0.6, (pair[1] - pair[0]) * scale + 0.6));
  });
}

function drawSpectrum(pen, { levels, columns, rows }) {
  const picture = new ImageData(columns, rows);
  const highest = levels.reduce((one, other) => Math.max(one, other), -Infinity);
  for (let column = 0; column < columns; column += 1) {
    for (let row = 0; row < rows; row += 1) {
      const share = 1 + (levels[column * rows + row] - highest) / RANGE_DB;
      // The lowest frequency stands at the bottom.
      picture.data.set(colourOf(share), 4 * ((rows - 1 - row) * columns + column));
    }
  }
  const small = element("canvas", { width: columns, height: rows });
  small.getContext("2d").putImageData(picture, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, LEFT_PX, WAVE_PX, columns, SPECTRUM_PX);
}

function colourOf(share) {
  const position = Math.min(Math.max(share, 0), 0.9999) * (COLOURS.length - 1);
  const index = Math.floor(position);
  const [from, to] = [COLOURS[index], COLOURS[index + 1]];
  return [...from.map((value, part) => value + (to[part] - value) * (position - index)), 255];
}

function drawAxes(pen, { columns, durationS, onsetS, highestHz }, colour) {
  pen.fillStyle = colour;
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const kiloHertz of ticks(0, highestHz / 1000 - 0.5, 4)) {
    const y = WAVE_PX + SPECTRUM_PX * (1 - (1000 * kiloHertz) / highestHz);
    pen.fillText(kiloHertz === 0 ? "kHz" : String(kiloHertz), LEFT_PX - 5, Math.min(y, WAVE_PX + SPECTRUM_PX - 6));
  }
  pen.textAlign = "center";
  const seconds = ticks(-onsetS, durationS - onsetS, Math.max(2, Math.floor(columns / PX_A_TICK)));
  seconds.forEach((second) => {
    const x = LEFT_PX + ((second + onsetS) / durationS) * columns;
    const text = second === 0 ? "onset" : `${second}\u00a0s`.replace("-", "\u2212");
    const half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(x, LEFT_PX + columns - half), WAVE_PX + SPECTRUM_PX + AXIS_PX / 2 + 1);
  });
}

function drawOnset(pen, x, top, bottom, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(x, top);
  pen.lineTo(x, bottom);
  pen.stroke();
  pen.setLineDash([]);
}
