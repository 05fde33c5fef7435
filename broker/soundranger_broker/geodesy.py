"""Geodesy: between WGS84 degrees and a flat east-north-up frame that is exact at its origin.

The frame is a tangent plane; distances in it between points at the height of the ellipsoid are right to 1 mm over 10 km
when the up component is kept, and pymap3d agrees with PROJ to 1e-9 m.
"""

from dataclasses import dataclass

import numpy as np
import pymap3d
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# A degree of latitude, metres.
DEGREE_M = 111_200.0


def roughly_m(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return east and north (n, 2) of the median of places, metres, to about a per cent of some kilometres.

    For questions that need no more: this costs a tenth of a `Frame`. A few that are far off spoil only themselves.
    """
    lats, lons = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    # The date line is a meridian like any other.
    around = np.radians(lons)
    middle = np.degrees(np.arctan2(np.median(np.sin(around)), np.median(np.cos(around))))
    east_deg = (lons - middle + 180.0) % 360.0 - 180.0
    east_deg -= np.median(east_deg)
    return DEGREE_M * np.stack([east_deg * np.cos(np.radians(lats)), lats - np.median(lats)], axis=-1)


@dataclass(frozen=True)
class Frame:
    """An east-north-up frame, metres, with its origin at a place on the ellipsoid."""

    lat: float
    lon: float

    @classmethod
    def amid(cls, lat: ArrayLike, lon: ArrayLike) -> "Frame":
        """Return a frame in the midst of places (n,) in WGS84 degrees, wherever a few of them claim to be.

        The origin is the median, taken in space, where the date line and the poles are places like any other; rounded
        to about a kilometre, so that the same places hardly ever give two frames.
        """
        x, y, z = (float(np.median(part)) for part in pymap3d.geodetic2ecef(np.asarray(lat), np.asarray(lon), 0.0))
        middle_lat, middle_lon, _ = pymap3d.ecef2geodetic(x, y, z)
        return cls(round(float(middle_lat), 2), round(float(middle_lon), 2))

    def to_enu(self, lat: ArrayLike, lon: ArrayLike, alt_m: ArrayLike = 0.0) -> Floats:
        """Return east, north, up in metres, shape (..., 3), of places in WGS84 degrees and metres."""
        enu = pymap3d.geodetic2enu(np.asarray(lat), np.asarray(lon), np.asarray(alt_m), self.lat, self.lon, 0.0)
        return np.stack([np.asarray(part, dtype=np.float64) for part in np.broadcast_arrays(*enu)], axis=-1)

    def to_geodetic(self, east_m: float, north_m: float, up_m: float = 0.0) -> tuple[float, float, float]:
        """Return latitude, longitude (degrees) and height (m) of a point of the frame."""
        lat, lon, alt_m = pymap3d.enu2geodetic(east_m, north_m, up_m, self.lat, self.lon, 0.0)
        return float(lat), float(lon), float(alt_m)
