// An event as the API lists it (a GeoJSON feature), in the shape that a live event has; its arrivals are only counted.

export function eventOf({ id, geometry, properties }) {
  const [lon, lat] = geometry.coordinates;
  return {
    id,
    lat,
    lon,
    revision: properties.revision,
    status: properties.status,
    time_ns: properties.time_ns,
    probability: properties.probability,
    ellipse95: {
      semi_major_m: properties.semi_major_m,
      semi_minor_m: properties.semi_minor_m,
      bearing_deg: properties.bearing_deg,
    },
    label: properties.label ?? undefined,
    reason: properties.reason ?? undefined,
    used: properties.arrivals,
    incident: properties.incident ?? undefined,
  };
}

export function reviewOf({ properties }) {
  const { verdict, reviewer, note, reviewed } = properties;
  return { verdict, reviewer, note, reviewed_ns: reviewed ? Date.parse(reviewed) * 1e6 : null };
}

// How many arrivals its place rests on.
export const usedArrivals = (event) => event.used ?? event.arrivals.filter((arrival) => arrival.used).length;
