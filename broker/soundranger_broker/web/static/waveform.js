// The shape of a sound, drawn small: the lowest and the highest sample within each step.

// Returns [low, high] pairs from `fromS` to `toS` of a sound, `null` where it has no samples.
export function envelope(buffer, fromS, toS, steps) {
  const samples = buffer.getChannelData(0);
  const perStep = ((toS - fromS) * buffer.sampleRate) / steps;
  return Array.from({ length: steps }, (_, step) => {
    const first = Math.round(fromS * buffer.sampleRate + step * perStep);
    return extremes(samples, first, Math.max(first + 1, Math.round(first + perStep)));
  });
}

function extremes(samples, first, end) {
  if (end <= 0 || first >= samples.length) return null;
  let low = Infinity;
  let high = -Infinity;
  for (let index = Math.max(0, first); index < Math.min(end, samples.length); index += 1) {
    low = Math.min(low, samples[index]);
    high = Math.max(high, samples[index]);
  }
  return [low, high];
}

export function loudest(buffer) {
  const [low, high] = extremes(buffer.getChannelData(0), 0, buffer.length);
  return Math.max(-low, high, Number.MIN_VALUE);
}
