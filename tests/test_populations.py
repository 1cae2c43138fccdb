"""Populations: what they draw has the redshift and the shape of the spectra that they learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_set import in_memory

from spectromer_cli.errors import SpectromerError
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.template_fit import Basis
from spectromer_cli.simulation.populations import (
    MOVE,
    Population,
    Populations,
    drawn_evenly,
    load_populations,
    to_arrays,
)
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import targets
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.templates import learn_populations, learn_templates
from spectromer_cli.weights.save import write_weights
from spectromer_cli.weights.store import resolve

GRID = Grid()
LINES = (3728.5, 4862.7, 5008.2, 6564.6)


def galaxies(n: int = 90) -> LabelledSpectra:
    """Galaxies of two subclasses: the second has the stronger lines."""
    rng = np.random.default_rng(11)
    z = rng.uniform(0.02, 0.2, n)
    strong = np.arange(n) % 2
    flux = np.empty((n, GRID.n))
    for i in range(n):
        rest = GRID.wavelength / (1 + z[i])
        flux[i] = (rest / 5000.0) ** rng.normal(0.0, 0.3)
        for line in LINES:
            height = (1.0 + 4.0 * strong[i]) * rng.uniform(0.8, 1.2)
            flux[i] += height * np.exp(-0.5 * ((rest - line) / 4.0) ** 2)
    flux += rng.normal(0.0, 0.05, flux.shape)
    subclass = np.where(strong, "STARBURST", "STARFORMING")
    return in_memory(GRID, flux, **{"class": np.full(n, "GALAXY")}, subclass=subclass, z=z)


def learn(data: LabelledSpectra) -> tuple[dict[str, Basis], dict[str, Population]]:
    labels, every = targets.general(data), np.ones(len(data), bool)
    bases = learn_templates(data, labels, every)
    return bases, learn_populations(data, labels, every, bases)


@pytest.fixture(scope="module")
def source() -> Populations:
    return Populations(*learn(galaxies()), GRID)


def test_a_drawn_line_lies_where_its_redshift_says(source: Populations) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        drawn = source.draw(rng, "GALAXY")
        assert 0.0 < drawn.z < 0.3
        near = np.abs(GRID.wavelength / (1 + drawn.z) - 5008.2) < 40.0
        peak = GRID.wavelength[near][np.nanargmax(drawn.flux[near])]
        assert peak / (1 + drawn.z) == pytest.approx(5008.2, abs=2.0)


def test_subclasses_keep_their_strengths(source: Populations) -> None:
    rng = np.random.default_rng(2)
    heights: dict[str, list[float]] = {"GALAXY STARBURST": [], "GALAXY STARFORMING": []}
    for _ in range(60):
        drawn = source.draw(rng, "GALAXY")
        near = np.abs(GRID.wavelength / (1 + drawn.z) - 5008.2) < 3.0
        heights[drawn.subclass].append(np.nanmax(drawn.flux[near]))
    assert min(heights["GALAXY STARBURST"]) > max(heights["GALAXY STARFORMING"])


def test_redshifts_keep_to_the_range_asked_for(source: Populations) -> None:
    rng = np.random.default_rng(3)
    z = [source.draw(rng, "GALAXY", (0.05, 0.06)).z for _ in range(30)]
    assert min(z) >= 0.05 - 1e-9
    assert max(z) <= 0.06 + 1e-9
    with pytest.raises(SpectromerError, match=r"have no GALAXY at z 2 to 3, only at 0\.0"):
        source.draw(rng, "GALAXY", (2.0, 3.0))


def test_nothing_is_drawn_where_no_object_was_seen(source: Populations) -> None:
    members = source.members["GALAXY"]
    drawn = source.draw(np.random.default_rng(4), "GALAXY")
    rest = GRID.loglam - np.log10(1 + drawn.z)
    assert np.isnan(drawn.flux[rest < members.low.min() - 1e-6]).all()
    assert np.isnan(drawn.flux[rest > members.high.max() + 1e-6]).all()
    widest = np.isfinite(drawn.flux).sum()
    assert widest > GRID.n * (1 - 2 * MOVE / (np.log(10) * GRID.dloglam * GRID.n) - 0.3)


def test_spectra_that_the_templates_do_not_describe_are_left_out() -> None:
    data = galaxies()
    labels, every = targets.general(data), np.ones(len(data), bool)
    bases, members = learn(data)
    before = len(members["GALAXY"].z)
    odd = np.sign(np.sin(GRID.wavelength / 30.0)) * 0.8 + 1.0
    data.flux[:10] = odd.astype(np.float16)
    after = learn_populations(data, labels, every, bases)["GALAXY"]
    assert len(after.z) == before - 10


def test_rare_subclasses_come_first() -> None:
    zero = np.zeros(100, np.float32)
    members = Population(zero[:, None], np.array([0] * 95 + [1] * 5), zero, zero, zero)
    drawn = drawn_evenly(members, 20)
    assert (drawn.subclass == 1).sum() == 5
    assert len(drawn.z) == 20


def test_there_and_back_through_a_file(tmp_path: Path, source: Populations) -> None:
    import torch

    basis = source.bases["GALAXY"]
    config = ModelConfig(
        "vit_tiny_patch16_224", "tiles", 3, GRID, [tasks.to_dict(t) for t in tasks.default_tasks()],
        templates={"GALAXY": {"loglam0": basis.loglam0, "error_scale": 1.0}},
    )  # fmt: skip
    tensors = {name: torch.from_numpy(v) for name, v in to_arrays(source.members).items()}
    tensors["templates.GALAXY"] = torch.from_numpy(basis.vectors)
    write_weights(tmp_path, "made.v1", tensors, config, {"licence": "none"})
    loaded = load_populations(resolve(str(tmp_path)), GRID)
    assert loaded.classes == ("GALAXY",)
    members: Population = loaded.members["GALAXY"]
    np.testing.assert_array_equal(members.subclass, source.members["GALAXY"].subclass)
    np.testing.assert_allclose(members.z, source.members["GALAXY"].z, atol=2e-4)
    # Weights that know no T number what comes after it by one less.
    few = [t for t in taxonomy.SUBCLASSES if t != "STAR T"]
    own = [{**t, "labels": few} if t["name"] == "subclass" else t for t in config.tasks]
    tensors["populations.GALAXY.subclass"] = torch.full_like(
        tensors["populations.GALAXY.subclass"], few.index("GALAXY AGN")
    )
    (tmp_path / "few").mkdir()
    write_weights(tmp_path / "few", "few.v1", tensors, replace(config, tasks=own),
                  {"licence": "none"})  # fmt: skip
    loaded = load_populations(resolve(str(tmp_path / "few")), GRID)
    drawn = loaded.draw(np.random.default_rng(0), "GALAXY")
    assert drawn.subclass == "GALAXY AGN"


def test_weights_without_populations_say_so(random_weights: Path) -> None:
    with pytest.raises(SpectromerError, match="contain no populations"):
        load_populations(resolve(str(random_weights)), GRID)
