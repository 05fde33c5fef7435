// The spectrogram of a sound: how much of each frequency there is at each moment.

// 5 ms at 48 kHz: short enough to tell a crack from its echo.
const SIZE = 256;

// Returns { levels, columns, rows }: decibels, column by column, lowest frequency first; rows go up to `highestHz`.
export function spectrogram(buffer, columns, highestHz) {
  const samples = buffer.getChannelData(0);
  const rows = Math.min(SIZE / 2, Math.max(1, Math.round((highestHz / buffer.sampleRate) * SIZE)));
  const levels = new Float32Array(columns * rows);
  const real = new Float64Array(SIZE);
  const imaginary = new Float64Array(SIZE);
  for (let column = 0; column < columns; column += 1) {
    const start = Math.round(((column + 0.5) / columns) * samples.length) - SIZE / 2;
    for (let index = 0; index < SIZE; index += 1) real[index] = (samples[start + index] ?? 0) * WINDOW[index];
    imaginary.fill(0);
    transform(real, imaginary);
    for (let row = 0; row < rows; row += 1) {
      levels[column * rows + row] = 10 * Math.log10(real[row] ** 2 + imaginary[row] ** 2 + 1e-20);
    }
  }
  return { levels, columns, rows };
}

const WINDOW = Float64Array.from({ length: SIZE }, (_, index) => 0.5 - 0.5 * Math.cos((2 * Math.PI * index) / SIZE));

// The fast Fourier transform (Cooley and Tukey), in place.
function transform(real, imaginary) {
  reorder(real, imaginary);
  for (let half = 1; half < SIZE; half *= 2) {
    for (let turn = 0; turn < half; turn += 1) {
      const cosine = Math.cos((Math.PI * turn) / half);
      const sine = -Math.sin((Math.PI * turn) / half);
      for (let even = turn; even < SIZE; even += 2 * half) {
        const odd = even + half;
        const oddReal = real[odd] * cosine - imaginary[odd] * sine;
        const oddImaginary = real[odd] * sine + imaginary[odd] * cosine;
        real[odd] = real[even] - oddReal;
        imaginary[odd] = imaginary[even] - oddImaginary;
        real[even] += oddReal;
        imaginary[even] += oddImaginary;
      }
    }
  }
}

// Puts each sample at the place whose number, in binary, is its own read backwards.
function reorder(real, imaginary) {
  for (let index = 0, mirrored = 0; index < SIZE; index += 1) {
    if (index < mirrored) {
      [real[index], real[mirrored]] = [real[mirrored], real[index]];
      [imaginary[index], imaginary[mirrored]] = [imaginary[mirrored], imaginary[index]];
    }
    let bit = SIZE / 2;
    while (bit >= 1 && mirrored & bit) {
      mirrored ^= bit;
      bit /= 2;
    }
    mirrored |= bit;
  }
}
