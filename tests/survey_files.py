"""Writers of small survey files of known content, one function a layout."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

OR_MASK = 1 << 23  # set on every pixel: a reader that minds it finds nothing good


@dataclass
class Made:
    """The truth that goes into a file, on a log-linear grid in vacuum; arrays of shape (n,)."""

    loglam: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    and_mask: np.ndarray
    target: dict[str, Any] = field(default_factory=dict)

    @property
    def wavelength(self) -> np.ndarray:
        return 10.0**self.loglam


def made(n: int = 400, seed: int = 0, loglam0: float = 3.5800, **target: Any) -> Made:
    """Random flux and ivar, nothing masked; a quasar unless `target` says otherwise."""
    rng = np.random.default_rng(seed)
    answer = {"CLASS": "QSO", "SUBCLASS": "BROADLINE", "Z": 1.25, "ZWARNING": 4}
    return Made(
        loglam=np.round(loglam0 + 1e-4 * np.arange(n), 4),
        flux=rng.normal(10.0, 1.0, n).astype(np.float32).astype(float),
        ivar=rng.uniform(0.5, 2.0, n).astype(np.float32).astype(float),
        and_mask=np.zeros(n, dtype=np.int32),
        target={**answer, **target},
    )


def table(columns: dict[str, Any], name: str = "") -> fits.BinTableHDU:
    """A binary table whose types are those of the arrays."""
    return fits.BinTableHDU(
        Table({key: np.asarray(value) for key, value in columns.items()}), name=name
    )


def _header(cards: dict[str, Any]) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    hdu.header.update(cards)
    return hdu


def write_spec(path: Path, spectrum: Made, survey: str = "SDSS") -> Path:
    """`spec` lite, with the spelling, the names and the headers of each survey's releases."""
    here: dict[str, Any] = {"PLUG_RA": 147.25, "PLUG_DEC": -0.5}
    plate = {"SDSS": 266, "BOSS": 3655, "eBOSS": 9367, "SDSS-V": 0}[survey]
    if survey == "SDSS-V":
        identity: dict[str, Any] = {"FIELD": 15143, "MJD": 59205, "CATALOGID": 4544940698}
        cards = {"RUN2D": "v6_1_3", "VERS2D": "v6_1_3"}
    else:
        identity = {"PLATE": plate, "MJD": 51602, "FIBERID": 31}
        cards = {"PLATEID": plate, "MJD": 51602, "FIBERID": 31, **here}
    if survey == "SDSS":
        cards |= {"VERS2D": "v5_3_12"}
        identity |= {"RUN2D": "26", "SURVEY": "sdss  ", "INSTRUMENT": "SDSS"}
    if survey in ("BOSS", "eBOSS"):
        cards |= {"RUN2D": "v5_13_0", "VERS2D": "v5_13_0"}
        identity |= {"PROGRAMNAME": survey.lower(), "FIELD": 77}  # the field of the imaging
    # RA and DEC of the header are the telescope's.
    primary = _header({"TELESCOP": "SDSS 2.5-M", "RA": 10.0, "DEC": 20.0, "VACUUM": True, **cards})
    coadd = {
        "flux": spectrum.flux.astype(np.float32),
        "loglam": spectrum.loglam.astype(np.float32),
        "ivar": spectrum.ivar.astype(np.float32),
        "and_mask": spectrum.and_mask,
        "or_mask": np.full(spectrum.flux.size, OR_MASK, dtype=np.int32),
    }
    upper = survey in ("eBOSS", "SDSS-V")
    coadd = {key.upper() if upper else key: column for key, column in coadd.items()}
    row = {key: [value] for key, value in (identity | here | spectrum.target).items()}
    row |= {"CLASS_NOQSO": ["STAR"], "Z_NOQSO": [0.0]}
    # Some releases leave the names of the extensions blank.
    names = {"SDSS": ("COADD", "SPECOBJ"), "eBOSS": ("", "")}.get(survey, ("COADD", "SPALL"))
    hdus = [primary, table(coadd, names[0]), table(row, names[1])]
    fits.HDUList(hdus).writeto(path)
    return path


def write_spplate(path: Path, fibres: list[Made]) -> Path:
    """`spPlate`: one row a fibre, numbered from 1; all fibres share the first one's grid."""
    n = len(fibres)
    or_mask = np.full((n, fibres[0].flux.size), OR_MASK, dtype=np.int32)
    primary = fits.PrimaryHDU(np.array([f.flux for f in fibres], dtype=np.float32))
    primary.header.update(
        {
            **{"PLATEID": 3655, "MJD": 55240, "RUN2D": "v5_7_0", "RA": 10.0, "DEC": 20.0},
            **{"COEFF0": fibres[0].loglam[0], "COEFF1": 1e-4, "VACUUM": True},
        }
    )
    number = np.arange(n)
    plugmap = {"FIBERID": number + 1, "RA": 110.0 + number, "DEC": 41.0 - number}
    plugmap["OBJTYPE"] = np.array(["QSO"] * n)
    hdus = [
        primary,
        fits.ImageHDU(np.array([f.ivar for f in fibres], dtype=np.float32)),
        fits.ImageHDU(np.array([f.and_mask for f in fibres], dtype=np.int32)),
        fits.ImageHDU(or_mask),
        fits.ImageHDU(np.ones_like(primary.data)),
        table(plugmap),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


def write_spspec(path: Path, spectrum: Made, rows: int = 5, spec_cln: int = 3) -> Path:
    """DR1-7 `spSpec`: an image of flux, residual, σ (0 where ivar is), mask and sky."""
    sigma = np.zeros(spectrum.flux.size)
    sigma[spectrum.ivar > 0] = spectrum.ivar[spectrum.ivar > 0] ** -0.5
    image = [spectrum.flux, spectrum.flux - 10.0, sigma, spectrum.and_mask, 100.0 + sigma]
    primary = fits.PrimaryHDU(np.array(image[:rows], dtype=np.float32))
    primary.header.update(
        {
            **{"TELESCOP": "SDSS 2.5-M", "PLATEID": 391, "MJD": 51782, "FIBERID": 155},
            **{"RA": 10.0, "DEC": 20.0, "RAOBJ": 7.25, "DECOBJ": -0.5, "VERS2D": "v5_3_12"},
            **{"COEFF0": spectrum.loglam[0], "COEFF1": 1e-4, "CTYPE1": "LINEAR", "VACUUM": True},
            **{"SPEC_CLN": spec_cln, "Z": spectrum.target["Z"], "Z_WARNIN": 16},
        }
    )
    primary.writeto(path)
    return path


def lamost_header(spectrum: Made, **cards: Any) -> dict[str, Any]:
    """The header of a LAMOST file; its CTYPE1 is wrong, as in the real ones."""
    target = {key: spectrum.target[key] for key in ("CLASS", "SUBCLASS", "Z")}
    return {
        **{"TELESCOP": "LAMOST", "LMJD": 55859, "MJD": 55858, "PLANID": "F5907", "SPID": 9},
        **{"FIBERID": 21, "RA": 45.75, "DEC": -0.5, "CTYPE1": "LINEAR", "VACUUM": True},
        **{"COEFF0": spectrum.loglam[0], "COEFF1": 1e-4, **target, **cards},
    }


def write_lamost_image(path: Path, spectrum: Made, **cards: Any) -> Path:
    """DR2-8: an image of flux, ivar, wavelength, AND mask, OR mask; gzipped by the suffix."""
    image = [spectrum.flux, spectrum.ivar, spectrum.wavelength, spectrum.and_mask]
    primary = fits.PrimaryHDU(np.array([*image, np.ones_like(image[0])], dtype=np.float32))
    primary.header.update(lamost_header(spectrum, **{"OBSID": 209021, **cards}))
    primary.writeto(path)
    return path


def write_lamost_oldest(path: Path, spectrum: Made, **cards: Any) -> Path:
    """DR1: the third row is flux over continuum; wavelengths in the header only, no OBSID."""
    image = [spectrum.flux, spectrum.ivar, spectrum.flux / 10.0, spectrum.and_mask]
    primary = fits.PrimaryHDU(np.array([*image, np.ones_like(image[0])], dtype=np.float32))
    primary.header.update(lamost_header(spectrum, **cards))
    primary.writeto(path)
    return path


def write_lamost_table(path: Path, spectrum: Made, **cards: Any) -> Path:
    """DR9 on: a table of one row whose cells are the vectors."""
    columns = {
        "FLUX": spectrum.flux,
        "IVAR": spectrum.ivar,
        "WAVELENGTH": spectrum.wavelength,
        "ANDMASK": spectrum.and_mask,
        "ORMASK": np.ones_like(spectrum.flux),
        "NORMALIZATION": spectrum.flux / 10.0,
    }
    vectors = {key: value[None].astype(np.float32) for key, value in columns.items()}
    primary = _header(lamost_header(spectrum, **{"OBSID": 209021, **cards}))
    fits.HDUList([primary, table(vectors, "COADD")]).writeto(path)
    return path


DESI_ARMS = {"B": (3600.0, 5800.0), "R": (5760.0, 7620.0), "Z": (7520.0, 9824.0)}


def write_desi(
    path: Path,
    targets: list[int],
    levels: list[float],
    arms: str = "BRZ",
    cards: dict[str, Any] | None = None,
    fibermap: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """DESI coadd of flat spectra of the given levels and S/N 10; a level may be an array of shape
    (7781,), on the merged grid.

    `cards` go into the primary header, `fibermap` are more columns; `changes` replace the data
    of an HDU.
    """
    number = np.arange(len(targets))
    columns = {"TARGETID": np.array(targets, dtype=np.int64), "TARGET_RA": number + 10.0}
    columns |= {"TARGET_DEC": number - 5.0} | (fibermap or {})
    hdus = [_header(cards or {}), table(columns, "FIBERMAP")]
    for arm in arms:
        wavelength = np.arange(DESI_ARMS[arm][0], DESI_ARMS[arm][1] + 0.4, 0.8)
        pixels = np.round((wavelength - 3600.0) / 0.8).astype(int)
        flux = np.array([np.broadcast_to(level, 7781)[pixels] for level in levels])
        data = {
            f"{arm}_WAVELENGTH": wavelength,
            f"{arm}_FLUX": flux.astype(np.float32),
            f"{arm}_IVAR": np.full(flux.shape, 100.0, dtype=np.float32),
            # Unsigned, as DESI's are: BZERO in the header.
            f"{arm}_MASK": np.zeros(flux.shape, dtype=np.uint32),
        }
        hdus += [fits.ImageHDU(changes.get(name, value), name=name) for name, value in data.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)
    return path


def damaged(data: bytes, how: str, where: float, junk: bytes) -> bytes:
    """A file cut, or overwritten with junk, at a fraction of its length; or with junk appended."""
    at = int(where * len(data))
    if how == "cut":
        return data[:at]
    if how == "overwrite":
        return data[:at] + junk + data[at + len(junk) :]
    return data + junk
