"""Exposures of one object become one spectrum, where that is asked for and never else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from conftest import Run, emission_galaxy

import spectromer_cli as spectromer
from spectromer_cli.inference.combine import combined
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.model.decoding import Predictions
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import Item, item_of
from spectromer_cli.spectra.spectrum import Spectrum

GRID = Grid()


def exposure(name: str, seed: int, sn: float = 5.0, scale: float = 1e-17, **meta: object) -> Item:
    made = emission_galaxy(0.1, sn=sn, seed=seed)
    spectrum = Spectrum(
        made.wavelength, made.flux * scale, made.ivar / scale**2, {"object_id": name, **meta}
    )
    return item_of(spectrum, f"{name}-{seed}.fits", 0, GRID)


def together(*items: Item) -> list[Item]:
    return list(combined(items, lambda item: item.meta.get("object_id", ""), GRID))


def test_the_mean_is_weighted_by_inverse_variance() -> None:
    items = [exposure("a", 0, sn=3.0), exposure("b", 1), exposure("a", 2, sn=6.0, scale=2e-17)]
    first, other = together(*items)
    assert [first.file, other.file] == ["a-0.fits", "b-1.fits"] and other is items[1]
    flux = [one.prepared.flux.astype(float) * one.prepared.scale for one in (items[0], items[2])]
    weight = [one.prepared.ivar / one.prepared.scale**2 for one in (items[0], items[2])]
    good = (weight[0] > 0) & (weight[1] > 0)
    mean = (flux[0] * weight[0] + flux[1] * weight[1])[good] / (weight[0] + weight[1])[good]
    assert np.allclose(first.prepared.flux[good] * first.prepared.scale, mean, rtol=1e-4, atol=0)
    total = (weight[0] + weight[1])[good]
    assert np.allclose(first.prepared.ivar[good] / first.prepared.scale**2, total, rtol=1e-4)
    assert first.meta["flags"][-1] == "COMBINED: 2"


def test_four_exposures_have_twice_the_signal_to_noise_of_one() -> None:
    (whole,) = together(*(exposure("a", seed) for seed in range(4)))
    assert whole.sn_median == pytest.approx(2.0 * exposure("a", 9).sn_median, rel=0.05)


def test_what_is_missing_in_one_comes_from_the_other() -> None:
    blue, red = exposure("a", 0), exposure("a", 1)
    blue.prepared.ivar[2000:] = 0.0
    red.prepared.ivar[:1000] = 0.0
    (whole,) = together(blue, red)
    expected = (blue.prepared.ivar > 0) | (red.prepared.ivar > 0)
    assert np.array_equal(whole.prepared.ivar > 0, expected)


def test_flags_bits_and_estimated_errors_of_all_are_kept() -> None:
    (whole,) = together(
        exposure("a", 0, flags=("MEDIUM_ASSUMED",), zwarn=1),
        exposure("a", 1, flags=("FRAME_ASSUMED",), zwarn=128, has_ivar=False),
    )
    assert whole.meta["flags"] == ("MEDIUM_ASSUMED", "FRAME_ASSUMED", "COMBINED: 2")
    assert whole.meta["zwarn"] == 129 and whole.meta["has_ivar"] is False


def test_what_cannot_be_one_object_is_refused_and_what_is_named_twice_counts_once() -> None:
    (far,) = together(exposure("a", 0, ra=10.0, dec=60.0), exposure("a", 1, ra=10.01, dec=60.0))
    assert far.prepared is None and "18 arcsec apart" in far.problem
    (near,) = together(exposure("a", 0, ra=10.0, dec=60.0), exposure("a", 1, ra=10.001, dec=60.0))
    assert near.problem == ""
    (other,) = together(exposure("a", 0), exposure("a", 1, scale=1.0))
    assert other.prepared is None and "are their units the same?" in other.problem
    (once,) = together(exposure("a", 0), exposure("a", 0))
    assert "flags" not in once.meta
    assert len(together(exposure("", 0), exposure("", 1))) == 2


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    for number in range(3):
        made = emission_galaxy(0.1, sn=5.0, seed=number)
        Table({"wavelength": made.wavelength, "flux": made.flux, "ivar": made.ivar}).write(
            tmp_path / f"{number}.csv"
        )
    (tmp_path / "broken.csv").write_text("wavelength,flux\n1,2\n")
    files = ["0.csv", "1.csv", "broken.csv", "2.csv"]
    Table({"file": files, "Name": ["x", "y", "x", "x"]}).write(tmp_path / "catalogue.csv")
    return tmp_path / "catalogue.csv"


@pytest.mark.parametrize("in_pieces", [False, True])
def test_by_a_column_of_the_catalogue_and_never_unasked(
    run: Run, weights: list[str], catalogue: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, in_pieces: bool,
) -> None:  # fmt: skip
    if in_pieces:
        monkeypatch.setattr("spectromer_cli.spectra.catalogues.LONG_BYTES", 0)
        monkeypatch.setattr("spectromer_cli.spectra.catalogues.RECENT", 1)
    command = ("redshift", "--catalog", catalogue, *weights)
    assert len(run(*command).rows) == 4
    result = run(*command, "--combine", "name", "-o", tmp_path / "out.csv")
    assert result.code == 3, result.err
    table = Table.read(tmp_path / "out.csv")
    assert [Path(name).name for name in table["file"]] == ["0.csv", "1.csv", "broken.csv"]
    assert "COMBINED: 2" in table["flags"][0] and "COMBINED" not in table["flags"][1]
    assert table["Name"].tolist() == ["x", "y", "x"]
    result = run(*command, "--combine", "colour")
    assert result.code == 2 and "choose from object_id" in result.err and "Name" in result.err


def test_from_python_and_resumed(
    weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectromer_cli.inference.predictor import Spectromer

    model = spectromer.load_model(weights[1], "cpu")
    made = []
    for number in range(6):
        spectrum = emission_galaxy(0.1, sn=5.0, seed=number)
        spectrum.meta["object_id"] = "abc"[number % 3]
        made.append(spectrum)
    table = spectromer.predict(made, model=model, combine="object_id")
    assert table["object_id"].tolist() == ["a", "b", "c"] and table["row"].tolist() == [0, 1, 2]
    for number, spectrum in enumerate(made):
        Table({"wavelength": spectrum.wavelength, "flux": spectrum.flux}).write(
            tmp_path / f"{number}.csv"
        )
    Table({"file": [f"{n}.csv" for n in range(6)], "name": list("abcabc")}).write(
        tmp_path / "c.ecsv"
    )
    inputs = spectromer.Inputs(catalog=tmp_path / "c.ecsv")
    settings = {"model": model, "combine": "name", "batch_size": 1, "output": tmp_path / "z.csv"}
    whole = Spectromer.predictions
    calls = []

    def stops(self: Spectromer, items: list, *arguments: object) -> Predictions:
        calls.append(items[0].file)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, items, *arguments)

    monkeypatch.setattr(Spectromer, "predictions", stops)
    with pytest.raises(KeyboardInterrupt):
        spectromer.predict(inputs, **settings)
    spectromer.predict(inputs, **settings, resume=True)
    assert [Path(name).name for name in calls] == ["0.csv", "1.csv", "2.csv", "2.csv"]
    assert Table.read(tmp_path / "z.csv")["name"].tolist() == ["a", "b", "c"]
