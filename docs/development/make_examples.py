"""Write the example spectra: simulated objects in the surveys' own file formats.

Usage: python docs/development/make_examples.py TEMPLATES.npz

Class and redshift stand in each file where a survey would put its own result, which never reaches
the model. Files are named as simulated, so that nobody takes them for the sky.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from spectromer_cli.model.taxonomy import CLASSES, SUBCLASSES
from spectromer_cli.simulation.simulator import Simulated, Simulator
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid

HERE = Path(__file__).parents[1] / "examples"
GRID = Grid()


def pick(drawn: Simulated, class_: str, z: tuple[float, float], sn: float, type_: str = "") -> int:
    """The first drawn spectrum of that class, redshift range, least S/N and type."""
    for i in range(len(drawn.z)):
        good = drawn.ivar[i] > 0
        signal = np.median(drawn.flux[i][good] * np.sqrt(drawn.ivar[i][good]))
        wide = GRID.wavelength[good][0] < 3950 and GRID.wavelength[good][-1] > 8800
        right_type = not type_ or list(SUBCLASSES)[drawn.subclass[i]] == type_
        if (
            CLASSES[drawn.class_[i]] == class_
            and z[0] <= drawn.z[i] <= z[1]
            and sn < signal < 4 * sn
            and wide
            and right_type
        ):
            return i
    raise SystemExit(f"no {class_} at {z} was drawn: draw more")


def truth(drawn: Simulated, i: int) -> tuple[str, str, float]:
    """Class, subclass and redshift as a survey would state them."""
    subclass = (
        list(SUBCLASSES)[drawn.subclass[i]].split(" ", 1)[1] if drawn.subclass[i] >= 0 else ""
    )
    return CLASSES[drawn.class_[i]], subclass, float(drawn.z[i])


def window(drawn: Simulated, i: int) -> slice:
    """From the first to the last good pixel."""
    good = np.flatnonzero(drawn.ivar[i] > 0)
    return slice(good[0], good[-1] + 1)


def write_sdss(path: Path, drawn: Simulated, i: int, plate: int, run2d: str) -> None:
    """The layout of an SDSS `spec-PLATE-MJD-FIBER` lite file."""
    cut = window(drawn, i)
    n = cut.stop - cut.start
    level = 12.0  # 1e-17 erg/s/cm²/Å
    bad = (drawn.ivar[i][cut] == 0).astype(np.int32) * 2**22
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column("flux", "E", array=drawn.flux[i][cut] * level),
            fits.Column("loglam", "E", array=GRID.loglam[cut]),
            fits.Column("ivar", "E", array=drawn.ivar[i][cut] / level**2),
            fits.Column("and_mask", "J", array=bad),
            fits.Column("or_mask", "J", array=bad),
            fits.Column("wdisp", "E", array=np.ones(n)),
        ],
        name="COADD",
    )
    class_, subclass, z = truth(drawn, i)
    answer = fits.BinTableHDU.from_columns(
        [
            fits.Column("PLATE", "J", array=[plate]),
            fits.Column("MJD", "J", array=[50000]),
            fits.Column("FIBERID", "J", array=[i + 1]),
            fits.Column("CLASS", "6A", array=[class_]),
            fits.Column("SUBCLASS", "21A", array=[subclass]),
            fits.Column("Z", "E", array=[z]),
            fits.Column("ZWARNING", "J", array=[0]),
        ],
        name="SPECOBJ",
    )
    primary = fits.PrimaryHDU()
    for key, value in {
        "TELESCOP": "SIMULATED",
        "PLATEID": plate,
        "MJD": 50000,
        "FIBERID": i + 1,
        "VERS2D": run2d,
        "RUN2D": run2d,
        "PLUG_RA": 0.0,
        "PLUG_DEC": 0.0,
        "VACUUM": True,
    }.items():
        primary.header[key] = value
    primary.header["COMMENT"] = "Simulated by spectromer: not an observation."
    fits.HDUList([primary, coadd, answer]).writeto(path, overwrite=True, checksum=True)


def write_lamost(path: Path, drawn: Simulated, i: int) -> None:
    """The layout of a LAMOST DR5-DR8 low-resolution file: one image, five rows."""
    cut = window(drawn, i)
    good = drawn.ivar[i][cut] > 0
    rows = [drawn.flux[i][cut] * 1000.0, drawn.ivar[i][cut] / 1000.0**2, 10 ** GRID.loglam[cut]]
    image = fits.PrimaryHDU(np.array([*rows, ~good, ~good], dtype=np.float32))
    class_, subclass, z = truth(drawn, i)
    for key, value in {
        "TELESCOP": "SIMULATED",
        "OBSID": 900000001,
        "LMJD": 50000,
        "PLANID": "SIMULATED",
        "SPID": 1,
        "FIBERID": i + 1,
        "COEFF0": float(GRID.loglam[cut][0]),
        "COEFF1": GRID.dloglam,
        "DATA_V": "LAMOST simulated",
        "VACUUM": True,
        "RA": 0.0,
        "DEC": 0.0,
        "CLASS": class_,
        "SUBCLASS": subclass,
        "Z": z,
    }.items():
        image.header[key] = value
    image.header["COMMENT"] = "Simulated by spectromer: not an observation."
    image.writeto(path, overwrite=True, checksum=True)


def write_desi(path: Path, drawn: Simulated, picked: list[int]) -> None:
    """The layout of a DESI coadd: three arms, one row a target."""
    hdus: list[fits.hdu.base._BaseHDU] = [fits.PrimaryHDU()]
    hdus[0].header["COMMENT"] = "Simulated by spectromer: not an observation."
    hdus.append(
        fits.BinTableHDU.from_columns(
            [
                fits.Column("TARGETID", "K", array=[1000 + i for i in picked]),
                fits.Column("TARGET_RA", "D", array=np.zeros(len(picked))),
                fits.Column("TARGET_DEC", "D", array=np.zeros(len(picked))),
            ],
            name="FIBERMAP",
        )
    )
    for arm, low, high in (("B", 3600.0, 5800.0), ("R", 5760.0, 7620.0), ("Z", 7520.0, 9824.0)):
        wavelength = np.arange(low, high + 0.4, 0.8)
        flux = np.zeros((len(picked), wavelength.size))
        ivar = np.zeros_like(flux)
        for row, i in enumerate(picked):
            good = drawn.ivar[i] > 0
            flux[row] = np.interp(wavelength, GRID.wavelength, drawn.flux[i])
            nearest = np.clip(np.searchsorted(GRID.wavelength, wavelength), 0, GRID.n - 1)
            # A grid pixel's information is shared by the 0.8 Å pixels within it.
            share = 0.8 / (GRID.wavelength * GRID.dloglam * np.log(10.0))[nearest]
            ivar[row] = np.where(good[nearest], drawn.ivar[i][nearest], 0.0) * share
        hdus.append(fits.ImageHDU(wavelength, name=f"{arm}_WAVELENGTH"))
        hdus.append(fits.ImageHDU(flux.astype(np.float32), name=f"{arm}_FLUX"))
        hdus.append(fits.ImageHDU(ivar.astype(np.float32), name=f"{arm}_IVAR"))
        hdus.append(fits.ImageHDU((ivar == 0).astype(np.int32), name=f"{arm}_MASK"))
    fits.HDUList(hdus).writeto(path, overwrite=True, checksum=True)


def main() -> None:
    """Draw, choose, write."""
    drawn = Simulator(Library(Path(sys.argv[1]), GRID), GRID).draw(
        np.random.default_rng(20260101), 5000
    )
    galaxy = pick(drawn, "GALAXY", (0.05, 0.2), 15, "GALAXY STARFORMING")
    quasar = pick(drawn, "QSO", (2.0, 2.8), 10)
    star = pick(drawn, "STAR", (-1, 1), 20, "STAR K")
    hot = pick(drawn, "STAR", (-1, 1), 30, "STAR A")
    write_sdss(HERE / "simulated-sdss-galaxy.fits", drawn, galaxy, 990, "26")
    write_sdss(HERE / "simulated-boss-quasar.fits", drawn, quasar, 4991, "v5_4_45")
    write_sdss(HERE / "simulated-sdss-star.fits", drawn, star, 992, "26")
    write_lamost(HERE / "simulated-lamost-star.fits", drawn, hot)
    pair = [
        pick(drawn, "GALAXY", (0.2, 0.6), 5, "GALAXY STARBURST"),
        pick(drawn, "QSO", (1.2, 1.8), 6),
    ]
    write_desi(HERE / "simulated-desi-coadd.fits", drawn, pair)
    with (HERE / "targets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "name", "priority"])
        for name, priority in (("sdss-galaxy", 2), ("boss-quasar", 1), ("lamost-star", 3)):
            writer.writerow([f"simulated-{name}.fits", name.replace("-", " "), priority])
    files = {
        "simulated-sdss-galaxy.fits": galaxy,
        "simulated-boss-quasar.fits": quasar,
        "simulated-sdss-star.fits": star,
        "simulated-lamost-star.fits": hot,
    }
    with (HERE / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "subclass", "z"])
        for name, i in files.items():
            writer.writerow([name, *truth(drawn, i)])


if __name__ == "__main__":
    main()
