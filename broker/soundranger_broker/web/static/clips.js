// The sound of the event that is open: fetched and decoded once a clip, and forgotten with the event.

import { address } from "./api.js";

// What browsers decode at (Web Audio API, section 1.1); sound outside is resampled to the nearest.
const RATES_HZ = [8000, 96_000];

export const clipAddress = ({ node, detection }) =>
  address(`clips/${encodeURIComponent(node)}/${encodeURIComponent(detection)}`);

export class Clips {
  constructor(onChange) {
    this.onChange = onChange;
    this.held = new Map();
  }

  // Returns a sound for each clip: { clip, buffer, problem }, `buffer` null until it is decoded.
  of(clips) {
    const wanted = new Set(clips.map(clipAddress));
    for (const url of this.held.keys()) if (!wanted.has(url)) this.held.delete(url);
    return clips.map((clip) => {
      const url = clipAddress(clip);
      if (!this.held.has(url)) {
        const sound = { clip, buffer: null, problem: null };
        this.held.set(url, sound);
        this._load(sound);
      }
      return this.held.get(url);
    });
  }

  async _load(sound) {
    try {
      const response = await fetch(clipAddress(sound.clip));
      if (!response.ok) throw new Error(`the server answers ${response.status}`);
      sound.buffer = await decode(await response.arrayBuffer(), sound.clip.sample_rate_hz);
    } catch (error) {
      sound.problem = `This sound cannot be played: ${error.message}`;
    }
    this.onChange();
  }
}

// An offline context of the clip's own rate leaves the samples as they are.
function decode(bytes, rateHz) {
  const [lowest, highest] = RATES_HZ;
  return new OfflineAudioContext(1, 1, Math.min(Math.max(rateHz, lowest), highest)).decodeAudioData(bytes);
}
