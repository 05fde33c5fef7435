"""The configuration: whether it can be read, and whether it describes this node and its place."""

from pathlib import Path

from soundranger_node.check.machine import SERVICE, SERVICE_USER
from soundranger_node.check.result import Result, fails, ok, warning
from soundranger_node.config import Place, Settings, load
from soundranger_node.errors import InputError

# The names that systems have before anybody gave them one; two nodes of one name throw each other off the broker.
NAMES_OF_NOBODY = frozenset({"raspberrypi", "localhost", "node", "debian", "pi"})
# The place in soundranger-node.example.toml.
EXAMPLE_PLACE = (48.13743, 11.57549)
# Decimal places of a degree below which a place is meant roughly: three are 100 m.
MIN_DECIMALS = 4
# The shore of the Dead Sea, and what the sea is below the ellipsoid south of India.
LOWEST_M = -450.0
# Nobody lives higher.
HIGHEST_M = 5_500.0
# A location cannot be better than the places that it rests on.
ROUGH_SIGMA_M = 30.0


def read(path: Path) -> tuple[Settings | None, Result]:
    """Return the settings in a file, if it is a configuration, and the result of having tried."""
    try:
        path.read_bytes()
    except FileNotFoundError:
        remedy = "let the installer put the example there, in a clone of soundranger, or name the file with --config"
        return None, fails("configuration", f"{path} does not exist", remedy, "sudo node/install.sh")
    except PermissionError:
        command = f"sudo -u {SERVICE_USER} {SERVICE} check"
        return None, fails("configuration", f"{path} is not for you to read", f"check as {SERVICE_USER}", command)
    except OSError as error:
        return None, fails("configuration", f"{path} cannot be read ({error.strerror})", "name a file with --config")
    try:
        return load(path), ok("configuration", str(path))
    except InputError as error:
        found = f"{error.subject} {error.problem}"
        return None, fails("configuration", found, error.remedy or "correct it", f"sudo nano {path}")


def judge_name(node: str, path: Path) -> Result:
    """Judge the node's name."""
    if node in NAMES_OF_NOBODY:
        found = f'"{node}" is what many computers are called, and no two nodes may share a name'
        return warning("name", found, 'set node = "..." in the first lines of the configuration', f"sudo nano {path}")
    return ok("name", node)


def judge_place(place: Place, path: Path) -> Result:
    """Judge whether the place can be that of a microphone; one that is surveyed in by a GPS is not judged here."""
    if place.lat is None or place.lon is None or place.alt_m is None:
        return ok("place", "is surveyed in by a GPS")
    here = f"{place.lat:.5f}, {place.lon:.5f}, {place.alt_m:g} m"
    command = f"sudo nano {path}"
    if wrong := _impossible(place.lat, place.lon, place.alt_m):
        return fails("place", f"{here} {wrong}", "set lat, lon and alt_m in [place]", command)
    if max(_decimals(place.lat), _decimals(place.lon)) < MIN_DECIMALS:
        found = f"{here} is given to 100 m or worse, and an event is located no better than that"
        return warning("place", found, "give lat and lon with five decimal places or more", command)
    if place.position_sigma_m > ROUGH_SIGMA_M:
        found = f"{here} is known to {place.position_sigma_m:g} m only, and an event is located no better than that"
        return warning("place", found, "find the place on an aerial photograph and lower position_sigma_m", command)
    return ok("place", f"{here} above the ellipsoid, known to {place.position_sigma_m:g} m")


def _impossible(lat: float, lon: float, alt_m: float) -> str:
    """Return why no microphone of this node stands there, or nothing."""
    if (lat, lon) == (0.0, 0.0):
        return "is in the sea off Africa"
    if (lat, lon) == EXAMPLE_PLACE:
        return "is the place of the example, not of this microphone"
    if not LOWEST_M <= alt_m <= HIGHEST_M:
        return "is no height of a microphone"
    return ""


def _decimals(degrees: float) -> int:
    return len(repr(degrees).partition(".")[2])
