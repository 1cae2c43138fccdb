"""The wavelength grid for a user's spectra: the model's if it fits, else one of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions, open_spectra
from spectromer_cli.spectra.sources import Target

# Spectra that are looked at, evenly through the list.
LOOKED_AT = 40
# The model's grid is kept if the typical spectrum fills so much of it, and it shows so much of
# the spectrum.
MIN_FILLED, MIN_SHOWN = 0.5, 0.6
# Samples a token on the default grid (4608 samples in 49 tokens), and the most and fewest
# tokens along a side.
SAMPLES_PER_TOKEN = 94
MIN_TOKENS, MAX_TOKENS = 4, 14
MIN_SAMPLES = 1024


def choose(
    targets: list[Target], config: ModelConfig, options: ReadOptions
) -> tuple[ModelConfig, str]:
    """A configuration whose grid fits the spectra.

    Parameters
    ----------
    targets : list of Target
    config : ModelConfig
        The weights' own.
    options : ReadOptions

    Returns
    -------
    config : ModelConfig
        With the same grid, or another grid and number of tokens.
    said : str
        For people: what was chosen, and why.

    Raises
    ------
    ReadError
        If none of those looked at can be read.
    """
    step = max(1, len(targets) // LOOKED_AT)
    seen = [found for target in targets[::step] if (found := _range(target, options))]
    if not seen:
        raise ReadError(
            "none of the spectra looked at can be read", "check the paths and the formats"
        )
    low, high, sampling = np.median(seen, axis=0)
    own = config.grid.loglam[[0, -1]]
    overlap = max(0.0, min(high, own[1]) - max(low, own[0]))
    filled, shown = overlap / (own[1] - own[0]), overlap / (high - low)
    if filled >= MIN_FILLED and shown >= MIN_SHOWN:
        return config, f"the grid of the weights fits: the typical spectrum fills {filled:.0%}"
    # From where nearly all begin to where nearly all end, as finely as they are sampled.
    low, high = np.percentile([s[0] for s in seen], 5), np.percentile([s[1] for s in seen], 95)
    finest = (high - low) / (SAMPLES_PER_TOKEN * MAX_TOKENS**2)
    coarsest = (high - low) / MIN_SAMPLES
    dloglam = float(np.clip(sampling, finest, coarsest))
    n = int(np.ceil((high - low) / dloglam)) + 1
    tokens = int(np.clip(round(np.sqrt(n / SAMPLES_PER_TOKEN)), MIN_TOKENS, MAX_TOKENS))
    grid = Grid(float(low), dloglam, n)
    said = (
        f"the typical spectrum fills {filled:.0%} of the weights' grid, which shows {shown:.0%} of "
        f"it: a new grid, {10**low:.0f} to {10**high:.0f} Å in {n} pixels, {tokens}×{tokens} "
        f"tokens"
    )
    if tokens != config.tokens:
        said += f" (position embeddings resampled from {config.tokens}×{config.tokens})"
    return replace(config, grid=grid, tokens=tokens), said


def _range(target: Target, options: ReadOptions) -> tuple[float, float, float] | None:
    """log10 of the first and last good wavelength in Å, and the median step."""
    if target.problem:
        return None
    try:
        with open_spectra(target.path, options) as spectra:
            spectrum = spectra.get(target.row or 0)
    except (ReadError, IndexError):
        return None
    loglam = np.log10(spectrum.wavelength)
    good = loglam[spectrum.good]
    if len(good) < 2:
        return None
    return float(good[0]), float(good[-1]), float(np.median(np.diff(loglam)))
