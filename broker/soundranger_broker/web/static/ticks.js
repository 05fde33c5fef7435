// Round numbers along an axis.

// Returns the multiples of 1, 2 or 5 times a power of ten between two values, at most `most` of them.
export function ticks(low, high, most) {
  const roughly = (high - low) / most;
  const decade = 10 ** Math.floor(Math.log10(roughly));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((size) => size >= roughly);
  const first = Math.ceil(low / step);
  const length = Math.max(0, Math.floor(high / step) - first + 1);
  return Array.from({ length }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}
