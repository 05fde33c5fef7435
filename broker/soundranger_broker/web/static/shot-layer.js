// Where simulated shots truly were: small crosses.

import { addSign, faded, keep } from "./marker.js";
import { shotSign } from "./signs.js";

export class ShotLayer {
  constructor(map) {
    this.map = map;
    this.drawings = new Map();
  }

  show(shots, nowMs) {
    keep(
      this.drawings,
      shots,
      (shot) => shot.id,
      (shot) => {
        const sign = shotSign();
        return { marker: addSign(this.map, "shots", shot, sign), sign };
      },
      (drawing, shot) => {
        drawing.sign.style.opacity = faded(shot.time_ns, nowMs);
      },
      (drawing) => drawing.marker.remove(),
    );
  }
}
