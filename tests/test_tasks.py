"""Tasks: losses ignore what has no label, and p(z) gives the redshift back."""

import numpy as np
import pytest
import torch

from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.decoding import decode_redshift
from spectromer_cli.model.tasks import Category, Redshift
from spectromer_cli.model.taxonomy import star_type

Z = Redshift()


def bump(z: float, width: float = 1.0, weight: float = 1.0) -> np.ndarray:
    place = (np.log1p(z) - Z.x0) / Z.dx
    p = np.exp(-0.5 * ((np.arange(Z.bins) - place) / width) ** 2)
    return weight * p / p.sum()


def test_tasks_survive_the_header() -> None:
    for task in tasks.default_tasks():
        assert tasks.from_dict(tasks.to_dict(task)) == task


def test_missing_labels_cost_nothing() -> None:
    logits = torch.randn(4, 3)
    task = Category("class", taxonomy.CLASSES)
    some = task.loss(logits, torch.tensor([0, -1, 2, -1]))
    only = task.loss(logits[[0, 2]], torch.tensor([0, 2]))
    assert some == pytest.approx(float(only))
    assert float(task.loss(logits, torch.full((4,), -1))) == 0.0
    logits = torch.randn(3, Z.bins, requires_grad=True)
    loss = Z.loss(logits, torch.tensor([0.5, float("nan"), float("nan")]))
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1:].any()
    assert float(Z.loss(logits.detach(), torch.full((3,), float("nan")))) == 0.0


@pytest.mark.parametrize("z", [0.01, 0.1234, 1.0, 3.21, 5.5])
def test_a_peak_gives_its_redshift_to_a_fraction_of_a_bin(z: float) -> None:
    answer = decode_redshift(Z, bump(z)[None], np.array([False]))
    assert answer.z[0] == pytest.approx(z, abs=0.05 * Z.dx * (1 + z))
    assert answer.z_prob[0] == pytest.approx(1.0, abs=1e-3)
    assert np.isnan(answer.alt_z[0]).all()
    assert not answer.at_edge[0]


def test_loss_is_least_at_the_truth() -> None:
    target = torch.tensor([0.7])
    losses = [
        float(Z.loss(torch.log(torch.tensor(bump(z, Z.SPREAD)[None] + 1e-12)), target))
        for z in (0.69, 0.7, 0.71)
    ]
    assert losses[1] == min(losses)


def test_alternatives_come_in_order() -> None:
    p = bump(0.3, 1, 0.6) + bump(1.7, 1, 0.3) + bump(4.0, 1, 0.1)
    answer = decode_redshift(Z, p[None], np.array([False]))
    assert answer.z[0] == pytest.approx(0.3, abs=1e-3)
    np.testing.assert_allclose(answer.alt_z[0, :2], [1.7, 4.0], atol=3e-3)
    np.testing.assert_allclose(answer.alt_prob[0, :2], [0.3, 0.1], atol=1e-3)
    assert np.isnan(answer.alt_z[0, 2:]).all()
    assert answer.z_prob[0] == pytest.approx(0.6, abs=1e-3)


def test_stars_keep_to_the_galaxy() -> None:
    p = bump(1.5, 1, 0.9) + bump(0.0003, 1, 0.1)
    answer = decode_redshift(Z, np.stack([p, p]), np.array([True, False]))
    assert abs(answer.z[0]) < 0.005
    assert answer.z[1] == pytest.approx(1.5, abs=1e-2)


def test_width_becomes_the_error() -> None:
    narrow, wide = (
        decode_redshift(Z, bump(1.0, width)[None], np.array([False])).z_err[0]
        for width in (1.0, 2.0)
    )
    assert narrow < wide
    assert wide == pytest.approx(2.0 * Z.dx * (1 + 1.0), rel=0.25)


def test_the_end_of_the_range_is_flagged() -> None:
    p = np.zeros(Z.bins)
    p[-1] = 1.0
    assert decode_redshift(Z, p[None], np.array([False])).at_edge[0]


@pytest.mark.parametrize(
    ("label", "type_"),
    [
        ("K0III", "K"), ("F3/F5V (30743)", "F"), ("A2II (39866)", "A"), ("WDhotter", "WD"),
        ("CalciumWD", "WD"), ("Carbon_lines", "Carbon"), ("CV", "CV"), ("sdM2", "M"),
        ("dM0", "M"), ("gK5", "K"), ("L5.5", "L"), ("G", "G"), ("OB", None), ("GB", None),
        ("HB", None), ("", None), ("STARFORMING", None),
    ],
)  # fmt: skip
def test_star_types(label: str, type_: str | None) -> None:
    assert star_type(label) == type_


def test_galaxy_subclasses() -> None:
    assert taxonomy.subclass_label("GALAXY", "AGN BROADLINE", True) == "GALAXY AGN"
    assert taxonomy.subclass_label("GALAXY", "", True) == "GALAXY PASSIVE"
    assert taxonomy.subclass_label("GALAXY", "", False) is None
    assert taxonomy.subclass_label("QSO", "STARBURST BROADLINE", True) == "QSO BROADLINE"
    assert taxonomy.subclass_label("QSO", "", True) == "QSO WEAKLINE"
    assert taxonomy.subclass_label("QSO", "", False) is None


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("O5e", 5),
        ("B9.5III", 19.5),
        ("A0", 20),
        ("F3/F5V (30743)", 33),
        ("G2V", 42),
        ("dM0", 60),
        ("T6", 86),
    ],
)
def test_decimal_types(label: str, place: float) -> None:
    assert taxonomy.star_place(label) == place


@pytest.mark.parametrize("label", ["", "WDhotter", "Carbon", "K", "CV", "12"])
def test_labels_without_a_decimal_type(label: str) -> None:
    assert np.isnan(taxonomy.star_place(label))


def test_a_type_keeps_to_its_letter() -> None:
    places = np.arange(len(taxonomy.SEQUENCE))
    p = np.exp(-0.5 * ((places - 39.8) / 1.25) ** 2)
    p = np.stack([p, p]) / p.sum()
    place, error = decoding.decode_type(p, ["F", "G"])
    assert [taxonomy.SEQUENCE[i] for i in place] == ["F9", "G0"]
    np.testing.assert_allclose(error, 1.0, atol=0.02)  # 1.25² − 0.75²
    # Far wings move neither the type nor its error by much.
    wings = 0.97 * p + 0.03 * np.eye(len(places))[[20, 75]]
    same, wider = decoding.decode_type(wings, ["F", "G"])
    assert same.tolist() == place.tolist()
    np.testing.assert_allclose(wider, error, rtol=0.1)


def test_the_best_ordered_answer_lies_at_the_truth() -> None:
    task = tasks.Ordered("star_type", taxonomy.SEQUENCE)
    logits = torch.zeros(1, task.size, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.5)
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(logits, torch.tensor([42.5])).backward()
        optimizer.step()
    p = task.prediction(logits.detach())[0].numpy()
    assert p @ np.arange(task.size) == pytest.approx(42.5, abs=0.1)
    assert float(task.loss(logits.detach(), torch.tensor([float("nan")]))) == 0.0


def test_a_quantity_learns_value_and_error_in_spite_of_outliers() -> None:
    rng = np.random.default_rng(0)
    task = tasks.Quantity("teff", centre=3.78, scale=0.08, log=True)
    truth = 10 ** rng.normal(3.70, 0.01, 400)
    truth[:8] = 30000.0  # wrong labels
    truth[8:20] = np.nan
    target = torch.from_numpy(truth.astype(np.float32))
    free = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([free], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        task.loss(free.expand(400, 2), target).backward()
        optimizer.step()
    value, error = task.prediction(free.detach())[0].tolist()
    assert value == pytest.approx(10**3.70, rel=0.005)
    assert error == pytest.approx(10**3.70 * np.log(10) * 0.01, rel=0.2)
    wider = task.prediction(task.temper(free.detach(), 2.0))[0]
    assert wider.tolist() == pytest.approx([value, 2 * error])
