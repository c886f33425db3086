// From values to pixels.

/** A linear scale; a domain of no width maps to the middle. */
export function scale([low, high], [from, to]) {
  if (!(high > low)) return () => (from + to) / 2;
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

/** Least and greatest of the numbers among `values`; null when there are none. */
export function extent(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? [Math.min(...known), Math.max(...known)] : null;
}

/** Path data through the points, broken where one is null. */
export function path(points) {
  let pen = "M";
  let data = "";
  for (const point of points) {
    if (point === null) {
      pen = "M";
      continue;
    }
    data += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = "L";
  }
  return data;
}
