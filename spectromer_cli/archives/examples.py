"""A small real sample for the tutorial: a star, a galaxy and a quasar of SDSS, a LAMOST star."""

from __future__ import annotations

from spectromer_cli.archives import lamost, sdss
from spectromer_cli.archives.match import Match
from spectromer_cli.archives.targets import Wanted

# What each is, by its survey: F9, z = 0.0365, z = 0.294, F7. SkyServer need not be asked where
# they lie.
_SDSS = (
    ("star", {"plate": 3128, "mjd": 54776, "fiberid": 8, "run2d": "104"}),
    ("galaxy", {"plate": 2127, "mjd": 53859, "fiberid": 518, "run2d": "26"}),
    ("quasar", {"plate": 1449, "mjd": 53116, "fiberid": 1, "run2d": "26"}),
)
_LAMOST = ("LAMOST star", 1001704233)


def find() -> list[Match]:
    """The matches of the sample; position and class come from the files."""
    dr = sdss.release_number(sdss.RELEASE)
    matches = [sdss.match_of(row, name, dr) for name, row in _SDSS]
    name, obsid = _LAMOST
    return matches + lamost.find([Wanted(name, ids={"obsid": obsid})], radius=0.0)
