"""The one container that readers fill and models use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.ranks import median

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# No spectrograph has more pixels; what claims to has more than fits into memory.
MAX_PIXELS = 1_000_000
# Of the meta data, these go to specutils and come from there.
HANDED_ON = ("survey", "object_id", "ra", "dec", "flags")
# In the header of what went there: its flux is f_λ, though in no unit.
ORIGIN = "spectromer"


@dataclass
class Spectrum:
    """One spectrum of one object.

    Parameters
    ----------
    wavelength : array of float64, shape (n,)
        Vacuum wavelength of the pixel centres in Å, heliocentric or barycentric as the
        survey gives it, strictly increasing. A Quantity is converted to Å.
    flux : array of float64, shape (n,)
        Flux density per Å, in any unit: only its shape is used. A Quantity per unit frequency,
        or in photons, is converted. Masked values are bad pixels.
    ivar : array of float64, shape (n,), optional
        Inverse variance in 1/flux². Zero marks a bad pixel: masks, dead edges and values
        that are not finite are folded in, and `flux` is 0 there if it was not finite. Without
        it, errors are estimated from the scatter.
    meta : dict
        ``survey`` and ``object_id`` (str); ``ra`` and ``dec`` (degrees) where known; the
        survey pipeline's own result where the file has it, as ``survey_class``,
        ``survey_subclass``, ``survey_z`` and ``survey_zwarning``; ``medium`` ("air" or
        "vacuum") and ``frame``, as found in the file; ``has_ivar`` (False where the errors were
        estimated from the scatter, because the file has none); ``flags``, words about what had to
        be assumed, and ``zwarn``, bits that the file itself sets; further identifiers, as
        `identity` compares them (``targetid``, ``plate``, ``mjd``, ``fiberid``, ``obsid``,
        ``desi_survey``, ``program``, ``healpix``, ``tileid``, ``night``, ``run2d``, ``field``,
        ``catalogid``). The survey's own result is for comparison only: it never reaches an image.

    Raises
    ------
    ValueError
        If the arrays differ in shape, the wavelengths are not strictly increasing, or a unit is not
        one of wavelength, flux density or inverse variance.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray = None  # type: ignore[assignment]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_long(np.size(self.wavelength))
        masked = getattr(self.flux, "mask", None)
        arrays = self.wavelength, self.flux, self.ivar
        if any(getattr(values, "unit", None) for values in arrays):
            self.wavelength, self.flux, self.ivar = _without_units(*arrays)
        if masked is not None:
            self.flux = np.where(masked, np.nan, np.ma.getdata(self.flux))
        if self.ivar is None:
            flux = np.asarray(self.flux, dtype=np.float64)
            self.ivar = ivar_from_scatter(np.where(filling(flux), np.nan, flux))
            self.meta = self.meta | {"has_ivar": False}
        self.wavelength = np.asarray(self.wavelength, dtype=np.float64)
        self.flux = np.array(self.flux, dtype=np.float64)
        self.ivar = np.array(self.ivar, dtype=np.float64)
        if not self.wavelength.shape == self.flux.shape == self.ivar.shape:
            raise ValueError(
                f"wavelength, flux and ivar differ in shape: {self.wavelength.shape}, "
                f"{self.flux.shape}, {self.ivar.shape}"
            )
        if self.wavelength.ndim != 1 or self.wavelength.size < 2:
            raise ValueError("a spectrum needs one dimension and at least two pixels")
        if not (self.wavelength[1:] > self.wavelength[:-1]).all():
            raise ValueError("the wavelengths are not strictly increasing")
        if self.wavelength[0] <= 0 or not np.isfinite(self.wavelength[-1]):
            raise ValueError("the wavelengths must be positive and finite")
        finite = np.isfinite(self.flux)
        usable = finite & np.isfinite(self.ivar) & (self.ivar >= 0)
        if not usable.all():
            self.ivar[~usable] = 0.0
            self.flux[~finite] = 0.0

    @property
    def good(self) -> np.ndarray:
        """Boolean array, shape (n,): the pixels that carry information."""
        return self.ivar > 0

    @property
    def sn_median(self) -> float:
        """Median signal-to-noise ratio a pixel over the good pixels; NaN if there are none."""
        good = self.good
        if not good.any():
            return float("nan")
        return median(self.flux[good] * np.sqrt(self.ivar[good]))

    def _repr_html_(self) -> str:
        """What a notebook shows: a sketch of the flux, and what there is to say of it."""
        from html import escape

        said = {
            "object": self.meta.get("object_id"), "survey": self.meta.get("survey"),
            "pixels": f"{self.good.sum()} good of {self.flux.size}",
            "vacuum wavelength": f"{self.wavelength[0]:.1f} – {self.wavelength[-1]:.1f} Å",
            "S/N per pixel": f"{self.sn_median:.1f} (median)",
            "flags": "; ".join(self.meta.get("flags", ())),
        }  # fmt: skip
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{escape(str(value))}</td></tr>"
            for name, value in said.items()
            if value
        )
        return f"<div>{self._sketch()}<table>{rows}</table></div>"

    def _sketch(self, width: int = 480, height: int = 120) -> str:
        """The good pixels as SVG, averaged where there are more than can be seen."""
        good = np.flatnonzero(self.good)
        if good.size < 2:
            return ""
        parts = np.array_split(good, min(good.size, width))
        x = np.array([self.wavelength[part].mean() for part in parts])
        y = np.array([self.flux[part].mean() for part in parts])
        low, high = np.quantile(y, [0.005, 0.995])
        low, high = min(low, 0.0), max(high, low + (low == high))
        x = (x - x[0]) / (x[-1] - x[0]) * width
        y = height * np.clip((high - y) / (high - low), 0.0, 1.0)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        return (
            f"<svg width='{width}' height='{height}' role='img'><polyline fill='none' "
            f"stroke='currentColor' stroke-width='0.7' points='{points}'/></svg>"
        )

    def plot(self, axes: Axes | None = None, *, z: float | None = None, class_: str = "") -> Axes:
        """Draw the flux with its errors, masked regions in grey.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            In which to draw; by default those of a new figure of `matplotlib.pyplot`.
        z : float, optional
            A redshift, for an axis of rest-frame wavelength.
        class_ : str
            STAR, GALAXY or QSO: its lines are marked at `z`.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ReadError
            If no pixel is good.
        """
        from spectromer_cli.spectra.drawing import HEIGHT, WIDTH, draw_alone
        from spectromer_cli.spectra.lines import lines_for

        if not self.good.any():
            raise ReadError("every pixel is masked, zero or NaN", "check ivar")
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
        lines = lines_for(class_.upper()) if class_ else ()
        draw_alone(axes, self.wavelength, self.flux, self.ivar, z=z, lines=lines)
        return axes

    def to_specutils(self) -> Any:
        """The same spectrum for specutils and jdaviz.

        Returns
        -------
        specutils.Spectrum
            Over vacuum wavelength in Å, with bad pixels masked and the inverse variance as its
            uncertainty, unless errors were estimated.

        Raises
        ------
        UsageError
            If specutils, an extra, is not installed.
        """
        try:
            import specutils
        except ImportError as error:
            raise UsageError(
                "specutils is not installed", "pip install 'spectromer[specutils]'"
            ) from error
        from astropy import units
        from astropy.nddata import InverseVariance

        frames = {"heliocentric": "HELIOCEN", "rest": "SOURCE"}
        # What is true of the arrays, which need not be what the file had.
        said = {
            "ORIGIN": ORIGIN,
            "VACUUM": True,
            "SPECSYS": frames.get(self.meta.get("frame", ""), "BARYCENT"),
        }
        return specutils.Spectrum(
            flux=self.flux * units.dimensionless_unscaled,
            spectral_axis=self.wavelength * units.AA,
            uncertainty=None if self.meta.get("has_ivar") is False else InverseVariance(self.ivar),
            mask=~self.good,
            meta={key: self.meta[key] for key in HANDED_ON if key in self.meta} | {"header": said},
        )

    def between(self, first: float, last: float) -> Spectrum:
        """The part of the spectrum from `first` to `last` Å; itself if it all lies there."""
        inside = (self.wavelength >= first) & (self.wavelength <= last)
        if inside.all() or inside.sum() < 2:
            return self
        return replace(
            self,
            wavelength=self.wavelength[inside],
            flux=self.flux[inside],
            ivar=self.ivar[inside],
        )


def _without_units(wavelength: Any, flux: Any, ivar: Any) -> tuple[Any, Any, Any]:
    """Numbers of Quantities and of columns with units: in Å, per Å, and 1/flux²."""
    from astropy import units

    def number_and_unit(values: Any) -> tuple[Any, Any]:
        if not getattr(values, "unit", None):
            return values, units.dimensionless_unscaled
        given = units.Quantity(getattr(values, "unmasked", values))
        return given.value, given.unit

    wavelength, of_wavelength = number_and_unit(wavelength)
    flux, of_flux = number_and_unit(flux)
    ivar, of_ivar = number_and_unit(ivar)
    try:
        if of_wavelength != units.dimensionless_unscaled:
            to_angstrom = of_wavelength.to("Angstrom", wavelength, units.spectral())
            wavelength = np.asarray(to_angstrom, dtype=np.float64)
        if of_ivar != units.dimensionless_unscaled:
            ivar = ivar * of_ivar.to(of_flux**-2)
    except (units.UnitConversionError, TypeError) as error:
        raise ValueError(str(error)) from error
    per_angstrom = units.Unit("erg / (s cm2 Angstrom)")
    here = units.spectral_density(np.asarray(wavelength) * units.AA)
    for beside in (
        units.dimensionless_unscaled,
        units.sr,
        units.pix,
    ):  # of surface brightness, per solid angle or pixel
        if (of_flux * beside).is_equivalent(per_angstrom):
            return wavelength, flux, ivar
        if (of_flux * beside).is_equivalent(per_angstrom, here):
            # Only the shape matters: in the middle of the spectrum the factor is 1.
            ones = np.ones(np.size(wavelength))
            factor = (of_flux * beside).to(per_angstrom, ones, here)
            factor = factor / np.median(factor)
            return wavelength, flux * factor, None if ivar is None else ivar / factor**2
    # Counts are a flux of their own kind; a length, or a magnitude, is none.
    if of_flux.physical_type not in ("dimensionless", "unknown"):
        raise ValueError(f"{of_flux} is not a unit of flux density")
    return wavelength, flux, ivar


def refuse_long(pixels: int) -> None:
    """Refuse what no spectrograph gives.

    Raises
    ------
    ReadError
        If there are more than `MAX_PIXELS` pixels.
    """
    if pixels > MAX_PIXELS:
        raise ReadError(
            f"a row has {pixels} pixels: too many for a spectrum (at most {MAX_PIXELS})",
            "is the table transposed?",
        )


def air_to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Convert air wavelengths to vacuum wavelengths.

    Parameters
    ----------
    wavelength : array
        Wavelength in dry air at 15 °C and 1 atm, in Å.

    Returns
    -------
    array
        Vacuum wavelength in Å. Values below 2000 Å are vacuum by custom and stay as they are.

    Notes
    -----
    Ciddor (1996, Applied Optics 35, 1566), equation 1, refractive index of standard air,
    evaluated at the vacuum wavenumber found by iteration.
    """
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = air.copy()
    for _ in range(3):  # converges to 1e-9 Å
        sigma2 = (1e4 / vacuum) ** 2  # µm⁻²
        index = 1.0 + 0.05792105 / (238.0185 - sigma2) + 0.00167917 / (57.362 - sigma2)
        vacuum = air * index
    return np.where(air < 2000.0, air, vacuum)


def ivar_from_scatter(flux: np.ndarray) -> np.ndarray:
    """Estimate an inverse variance where a file has none.

    Parameters
    ----------
    flux : array, shape (n,)
        Flux of neighbouring pixels; values that are not finite get ivar 0.

    Returns
    -------
    array, shape (n,)
        One constant inverse variance, 0 where `flux` is not finite.

    Notes
    -----
    DER_SNR (Stoehr et al. 2008, ST-ECF Newsletter 42, 4): the noise is
    1.482602/√6 · median |2 f(i) − f(i−2) − f(i+2)|, which smooth spectra leave at zero.
    """
    flux = np.asarray(flux, dtype=np.float64)
    finite = np.isfinite(flux)
    f = flux[finite]
    if f.size < 5:
        return np.zeros_like(flux)
    sigma = 1.482602 / np.sqrt(6.0) * median(np.abs(2.0 * f[2:-2] - f[:-4] - f[4:]))
    # A noiseless model still needs a finite error: a thousandth of its level.
    sigma = max(sigma, 1e-3 * median(np.abs(f)))
    if sigma <= 0:
        return np.zeros_like(flux)
    return np.where(finite, 1.0 / sigma**2, 0.0)


# Of `errors_fit_scatter`: the least and the greatest scatter over errors; a share of the flux that
# lines and faults of the flat field may add to the scatter; the range of errors [ln] from which on
# their course is judged, and the least slope of the scatter against them. Set on held-out spectra
# of the surveys: 0.99 of them and all shuffled errors lie on their sides of the slope.
LEAST_SCATTER, MOST_SCATTER, LINES = 0.25, 2.5, 0.03
MIN_RANGE, MIN_SLOPE = 0.5, 0.2
# Pixels from which on the scatter tells anything, and those that are enough; the groups of similar
# errors that they are in.
ENOUGH_PIXELS, MANY_PIXELS, GROUPS = 300, 1000, 8


def errors_fit_scatter(flux: np.ndarray, ivar: np.ndarray) -> bool:
    """Whether errors can be those of the flux, by its scatter from pixel to pixel.

    Parameters
    ----------
    flux, ivar : array, shape (n,)
        In the spectrum's own sampling; pixels of ivar 0 do not count.

    Returns
    -------
    bool
        False if the errors are far too large or too small (σ or the variance given as the inverse
        variance, another unit), or are not larger where the scatter is (of other pixels).

    Notes
    -----
    The differences of `ivar_from_scatter`, each over its own error. Errors that are too large must
    be so over eight pixels too, since resampling makes neighbours alike.
    """
    good = ivar > 0
    flux, ivar = flux[good], ivar[good]
    if flux.size < ENOUGH_PIXELS:
        return True

    every = max(flux.size // MANY_PIXELS, 1)

    def scatter(lag: int) -> tuple[np.ndarray, np.ndarray]:
        inside, before = slice(lag, -lag, every), slice(None, -2 * lag, every)
        after = slice(2 * lag, None, every)
        difference = np.abs(2.0 * flux[inside] - flux[before] - flux[after])
        error = np.sqrt(4.0 * (1.0 / ivar[inside]) + 1.0 / ivar[before] + 1.0 / ivar[after])
        return 1.482602 * difference, error

    difference, error = scatter(2)
    ratio = median(difference / error)
    if ratio < LEAST_SCATTER:
        far, error_far = scatter(8)
        if not median(far / error_far) >= LEAST_SCATTER:
            return False
    if ratio > MOST_SCATTER:  # with the lines it can only be less
        lines = LINES * np.sqrt(6.0) * np.abs(flux[2:-2:every])
        if median(difference / np.hypot(error, lines)) > MOST_SCATTER:
            return False
    order = np.argsort(error)
    groups = order[: order.size // GROUPS * GROUPS].reshape(GROUPS, -1)
    # In each group the errors are in order already.
    middle = groups.shape[1] // 2
    claimed = _log(error[groups[:, middle - 1 + groups.shape[1] % 2 : middle + 1]].mean(axis=1))
    if claimed[-1] - claimed[0] < MIN_RANGE:
        return True
    found = _log(np.median(difference[groups], axis=1))
    centred = claimed - claimed.mean()
    return bool(centred @ found > MIN_SLOPE * (centred @ centred))


def _log(values: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = np.log(np.maximum(values, 1e-300))
    return logarithms


# Values that programs write where there is no flux.
FILL_VALUES = (0.0, -1.0, -99.0, -999.0, -9999.0)
# So many pixels of one exact value in a row are filling: at an end, where only the values above
# count, and inside; noise does not repeat itself.
END_RUN, FILL_RUN, ANY_RUN = 3, 5, 12


def filling(flux: np.ndarray) -> np.ndarray:
    """Find pixels that hold a filling value in place of a measurement.

    Parameters
    ----------
    flux : array, shape (n,)
        Pixels that are not finite are filling.

    Returns
    -------
    bool array, shape (n,)
        True in runs of one exact value: of any value if they are long, of the usual fill values
        if they are shorter, and at the ends of the spectrum from a few pixels on.
    """
    flux = np.asarray(flux, dtype=np.float64)
    empty = ~np.isfinite(flux)
    if flux.size < 2 or empty.all():
        return empty
    values = np.where(empty, 0.0, flux)  # what is not finite at an end does not hide a run there
    filled = empty | _in_runs(values)
    # −999 is no flux where it stands far below all others, however often.
    if values.min() <= max(FILL_VALUES[2:]):
        level = median(np.abs(flux[~empty]))
        filled |= _is_one_of(flux, FILL_VALUES[2:]) & (np.abs(flux) > 20.0 * level)
    return filled


def _in_runs(values: np.ndarray) -> np.ndarray:
    """Where one exact value stands so often in a row that it is filling."""
    inside = np.zeros(values.size, dtype=bool)
    like_next = values[1:] == values[:-1]
    if not (like_next[1:] & like_next[:-1]).any():  # the shortest run that counts has three
        return inside
    edges = np.diff(np.concatenate([[False], like_next, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1
    lengths = ends - starts
    is_fill = _is_one_of(values[starts], FILL_VALUES)
    # What most of a spectrum holds is no filling, unless it is one of the usual values.
    filled = (lengths >= ANY_RUN) & (lengths < values.size / 2)
    filled |= is_fill & (lengths >= FILL_RUN)
    filled |= is_fill & (lengths >= END_RUN) & ((starts == 0) | (ends == values.size))
    for start, end in zip(starts[filled].tolist(), ends[filled].tolist(), strict=True):
        inside[start:end] = True
    return inside


def _is_one_of(values: np.ndarray, few: Sequence[float]) -> np.ndarray:
    """`np.isin` of a few numbers, in a tenth of its time."""
    return np.logical_or.reduce([values == one for one in few])


def merged(
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    *,
    numbers: np.ndarray | None = None,
    line: str = "pixel",
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], bool]:
    """Bring a spectrum into the order of increasing wavelength, each wavelength once.

    Parameters
    ----------
    wavelength, flux, ivar : array, shape (n,)
        From red to blue is as good as from blue to red. Arms or orders that overlap are sorted
        into one another, and repeated wavelengths averaged by inverse variance.
    numbers : int array, shape (n,), optional
        The place of each pixel in its file, for messages; counted from 1 if not given.
    line : str
        What is counted.

    Returns
    -------
    arrays : tuple of three arrays, shape (m,), m <= n
    changed : bool
        Whether pixels were sorted into one another or averaged.

    Raises
    ------
    ReadError
        If a wavelength is negative, or some run neither up nor down: the table is damaged.
    """
    wavelength, flux, ivar = (np.asarray(a, dtype=np.float64) for a in (wavelength, flux, ivar))
    numbers = np.arange(1, wavelength.size + 1) if numbers is None else numbers
    if (wavelength < 0).any():
        i = int(np.argmax(wavelength < 0))
        raise ReadError(
            f"{line} {numbers[i]} has a negative wavelength, {wavelength[i]:.6g} Å",
            "check whether a separator between columns is missing",
        )
    if (wavelength[1:] > wavelength[:-1]).all():
        return (wavelength, flux, ivar), False
    if wavelength.size > 1 and np.median(np.diff(wavelength)) < 0:
        wavelength, flux, ivar = wavelength[::-1], flux[::-1], ivar[::-1]
        numbers = numbers[::-1]
    steps = np.diff(wavelength)
    if (steps > 0).all():
        return (wavelength, flux, ivar), False
    # Arms and orders start again with steps as small as everywhere; a damaged line does not.
    usual = float(np.median(np.abs(steps[steps != 0]))) if (steps != 0).any() else 0.0
    strange = np.abs(steps) > 10.0 * usual
    for i in np.flatnonzero(steps < 0).tolist():
        if strange[max(i - 1, 0)] or strange[min(i + 1, steps.size - 1)]:
            raise ReadError(
                f"the wavelengths are neither increasing nor decreasing: {line} {numbers[i + 1]} "
                f"has "
                f"{wavelength[i + 1]:.6g} after {wavelength[i]:.6g} Å",
                "sort the table by wavelength",
            )
    order = np.argsort(wavelength, kind="stable")
    wavelength, flux, ivar = wavelength[order], flux[order], ivar[order]
    apart = np.concatenate([[True], np.diff(wavelength) > 1e-3 * usual])
    place = np.cumsum(apart) - 1
    good = np.isfinite(flux) & (ivar > 0)
    weight = np.bincount(place, np.where(good, ivar, 0.0))
    total = np.bincount(place, np.where(good, ivar * np.where(good, flux, 0.0), 0.0))
    mean = np.divide(total, weight, out=np.full(weight.size, np.nan), where=weight > 0)
    return (wavelength[apart], mean, weight), True


# Pixels of two arms that lie closer than this part of a pixel are one pixel.
SAME_PIXEL = 0.05


def joined(arms: Sequence[Spectrum]) -> Spectrum:
    """Join the arms, halves or orders of one spectrum.

    Where arms share a grid, pixels that they have in common are averaged by inverse variance;
    pixels of other grids are sorted into one another.

    Parameters
    ----------
    arms : sequence of Spectrum
        In the same unit, in any order; at least one.

    Returns
    -------
    Spectrum
        With the ``meta`` of the first, the ``flags`` of all, and ``has_ivar`` False if any has
        estimated errors.
    """
    if len(arms) == 1:
        return arms[0]
    wavelength, flux, ivar, step = (
        np.concatenate(arrays)
        for arrays in zip(
            *((a.wavelength, a.flux, a.ivar, np.gradient(a.wavelength)) for a in arms), strict=True
        )
    )
    order = np.argsort(wavelength, kind="stable")
    wavelength, flux, ivar, step = wavelength[order], flux[order], ivar[order], step[order]
    apart = np.diff(wavelength) > SAME_PIXEL * np.minimum(step[1:], step[:-1])
    first = np.concatenate([[True], apart])
    place = np.cumsum(first) - 1
    weight = np.bincount(place, ivar)
    total = np.bincount(place, ivar * flux)
    mean = np.divide(total, weight, out=np.zeros(weight.size), where=weight > 0)
    meta = dict(arms[0].meta)
    flags = dict.fromkeys(flag for arm in arms for flag in arm.meta.get("flags", ()))
    if flags:
        meta["flags"] = tuple(flags)
    if any(arm.meta.get("has_ivar") is False for arm in arms):
        meta["has_ivar"] = False
    return Spectrum(wavelength[first], mean, weight, meta)
