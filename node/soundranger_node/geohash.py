"""Geohash: the name of a cell of the earth's surface, the longer the name the smaller the cell.

Five characters are about 5 km by 5 km. See https://en.wikipedia.org/wiki/Geohash (G. Niemeyer, 2008).
"""

ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz"
BITS_PER_CHARACTER = 5


def geohash(lat: float, lon: float, length: int = 5) -> str:
    """Return the geohash of `length` characters of a place in WGS84 degrees."""
    south, north, west, east = -90.0, 90.0, -180.0, 180.0
    bits = 0
    for number in range(length * BITS_PER_CHARACTER):
        if number % 2 == 0:
            middle = (west + east) / 2
            upper = lon >= middle
            west, east = (middle, east) if upper else (west, middle)
        else:
            middle = (south + north) / 2
            upper = lat >= middle
            south, north = (middle, north) if upper else (south, middle)
        bits = bits << 1 | upper
    shifts = range((length - 1) * BITS_PER_CHARACTER, -1, -BITS_PER_CHARACTER)
    return "".join(ALPHABET[bits >> shift & 0b11111] for shift in shifts)
