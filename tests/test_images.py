"""Images: what is drawn, where, and that every token shows just the samples it claims."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spectromer_cli.errors import UsageError
from spectromer_cli.images import IMAGES, PATCH, get_image, maps, render
from spectromer_cli.images.plots import divide, quantiles
from spectromer_cli.spectra.grid import Grid

REAL = Path(__file__).parents[2] / "shared" / "data" / "real.h5"
GRID = Grid()
TOKENS = 7
SIDE = TOKENS * PATCH
PLOTS = [name for name, module in IMAGES.items() if module == "plots"]
MAPS = [name for name, module in IMAGES.items() if module == "maps"]


def flat(value: float = 1.0, n: int = GRID.n) -> torch.Tensor:
    return torch.full((1, n), value)


def draw(name: str, flux: torch.Tensor, ivar: torch.Tensor | None = None) -> torch.Tensor:
    """One spectrum, of S/N 30 unless told."""
    return render(name, flux, torch.full_like(flux, 900.0) if ivar is None else ivar, GRID)[0]


def per_token(image: torch.Tensor) -> NDArray[np.float32]:
    """The pixels of every token, shape (tokens², 3·256)."""
    patches = image.view(3, TOKENS, PATCH, TOKENS, PATCH).permute(1, 3, 0, 2, 4)
    return patches.reshape(TOKENS * TOKENS, -1).numpy()


# --- every image ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("tokens", [7, 14])
def test_shape_range_and_batch(name: str, tokens: int) -> None:
    random = torch.Generator().manual_seed(1)
    flux = 1.0 + 0.3 * torch.randn((3, GRID.n), generator=random)
    ivar = torch.full_like(flux, 11.0)
    ivar[1, 1000:2000] = 0.0
    flux[1, 1000:2000] = 0.0
    images = render(name, flux, ivar, GRID, tokens)
    assert images.shape == (3, 3, 16 * tokens, 16 * tokens)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.abs().max() <= 3.0
    alone = render(name, flux[1:2], ivar[1:2], GRID, tokens)
    assert torch.equal(alone[0], images[1])  # no spectrum sees its neighbours


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_good_and_flat_give_finite_images(name: str) -> None:
    assert draw(name, flat(0.0), flat(0.0)).isfinite().all()
    assert draw(name, flat(1.0)).isfinite().all()


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("grid", [Grid(), Grid(n=1500), Grid(3.5, 2e-4, 2500)])
def test_every_sample_is_shown_and_every_token_shows_some(name: str, grid: Grid) -> None:
    shown = get_image(name).samples(grid, TOKENS)
    assert shown.shape == (TOKENS * TOKENS, grid.n)
    assert shown.dtype == bool
    assert shown.any(axis=0).all()
    assert shown.any(axis=1).all()


@pytest.mark.parametrize("name", [*PLOTS, *MAPS])
def test_tokens_show_just_the_samples_they_claim(name: str) -> None:
    """A changed sample changes the tokens that claim it, all of them, and no other."""
    shown = get_image(name).samples(GRID, TOKENS)
    claims_differ = (shown[:, 1:] != shown[:, :-1]).any(axis=0)
    borders = np.union1d(np.flatnonzero(claims_differ), np.flatnonzero(claims_differ) + 1)
    # What counts as a region of interest (channel 2) depends on the continuum around it.
    own = slice(2 * PATCH * PATCH if name == "map2d-roi" else None)
    # Steps at one end set the flux axis, which one sample more or less does not move; the
    # samples tried lie at the other end. They go up in one drawing, down in the other.
    for steps, tried in (
        (slice(0, 1500), range(1600, 4608, 97)),
        (slice(3100, 4608), range(0, 3000, 97)),
    ):
        base = flat()
        base[0, steps] = torch.where(torch.arange(base[0, steps].numel()) % 40 < 20, 0.5, 1.5)
        before = per_token(draw(name, base))
        for sample in [*tried, *borders[np.isin(borders, range(tried[0], tried[-1]))][:60]]:
            changed = np.zeros(TOKENS * TOKENS, dtype=bool)
            for value in (-1.0, 3.0):
                flux = base.clone()
                flux[0, sample] = value
                changed |= (per_token(draw(name, flux)) != before)[:, own].any(axis=1)
            assert np.flatnonzero(changed).tolist() == np.flatnonzero(shown[:, sample]).tolist()


def test_tiles_change_most_where_they_claim_the_sample() -> None:
    """The continuum of tiles reaches further, but weakly."""
    shown = get_image("tiles").samples(GRID, TOKENS)
    before = per_token(draw("tiles", flat()))
    for sample in range(0, GRID.n, 97):
        flux = flat()
        flux[0, sample] = 1.3
        change = np.abs(per_token(draw("tiles", flux)) - before).max(axis=1)
        assert np.array_equal(change > 0.5 * change.max(), shown[:, sample])


def test_wrong_names_offer_near_ones() -> None:
    with pytest.raises(UsageError) as caught:
        get_image("map2d-nrom")
    assert "map2d-norm" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        get_image("xyz")
    assert "tiles" in caught.value.hint


@pytest.mark.gpu
@pytest.mark.parametrize("name", IMAGES)
def test_a_gpu_draws_what_the_cpu_draws(name: str) -> None:
    random = torch.Generator().manual_seed(2)
    flux = 1.0 + 0.3 * torch.randn((4, GRID.n), generator=random)
    ivar = (torch.rand((4, GRID.n), generator=random) > 0.1) * 11.0
    there = render(name, flux.cuda(), ivar.cuda(), GRID)
    assert there.is_cuda
    # A rounding that falls the other way moves a line by one pixel here and there.
    assert (there.cpu() - render(name, flux, ivar, GRID)).abs().mean() < 1e-3


# --- tiles ----------------------------------------------------------------------------------


def test_tiles_hold_contiguous_stretches_row_by_row() -> None:
    ramp = torch.linspace(0.5, 1.5, GRID.n)[None]
    patches = draw("tiles", ramp).view(3, TOKENS, PATCH, TOKENS, PATCH)
    start = np.linspace(0, GRID.n - 256, 49).round().astype(int)
    for token in (0, 1, 24, 48):
        level = patches[0, token // 7, :, token % 7].reshape(-1)
        expected = torch.asinh(ramp[0, start[token] : start[token] + 256]) - 0.9
        assert torch.allclose(level, expected, atol=1e-6)


def test_tiles_show_a_line_by_its_significance_and_strength() -> None:
    flux = flat()
    flux[0, 2304] = 2.0
    level, significance, strength = draw("tiles", flux, flat(400.0))
    # 1 above the continuum at σ = 0.05 is 20σ, less the line's own share in the continuum.
    assert significance.max() == pytest.approx(np.arcsinh(20.0 / 2) / 2, abs=0.01)
    assert strength.max() == pytest.approx(np.arcsinh(5.0 / 1.1), abs=0.02)
    assert level.max() == pytest.approx(np.arcsinh(2.0) - 0.9, abs=1e-6)


def test_tiles_are_black_where_nothing_was_measured() -> None:
    ivar = flat()
    ivar[0, :1000] = 0.0
    level, significance, _ = draw("tiles", flat() * (ivar > 0), ivar)
    assert (level[:PATCH, : 2 * PATCH] == -1.0).all()
    assert (significance[:PATCH, : 2 * PATCH] == 0.0).all()


# --- line plots -----------------------------------------------------------------------------


def dark(image: torch.Tensor) -> NDArray[np.bool_]:
    return (image < 0).numpy()


def test_line_follows_the_flux() -> None:
    """A ramp is a diagonal: low flux at the bottom left, high at the top right."""
    image = draw("line", torch.linspace(0.0, 2.0, GRID.n)[None])
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert set(image.unique().tolist()) == {-1.0, 1.0}
    rows, columns = np.nonzero(dark(image[0]))
    # The axis is 0.99 of the ramp and 15 % of that on either side.
    slope, start = np.polyfit(columns, rows, 1)
    height = 2.0 * 0.99
    expected = 2.0 / (1.3 * height) * (SIDE - 1)
    assert slope * (SIDE - 1) == pytest.approx(-expected, rel=0.02)
    assert start == pytest.approx((SIDE - 1 + expected) / 2, abs=1.0)


@pytest.mark.parametrize("name", ["line", "strip"])
def test_lines_have_no_gaps(name: str) -> None:
    """Neighbouring columns touch, through noise and single bad pixels."""
    random = torch.Generator().manual_seed(3)
    flux = 1.0 + 0.5 * torch.sin(torch.arange(GRID.n) / 20.0)[None]
    ivar = (torch.rand((1, GRID.n), generator=random) > 0.1).float()
    image = dark(draw(name, flux * ivar, ivar)[0])
    strips = [image] if name == "line" else np.split(image, TOKENS)
    for strip in strips:
        for left, right in zip(strip.T[:-1], strip.T[1:], strict=True):
            left_rows, right_rows = np.flatnonzero(left), np.flatnonzero(right)
            assert left_rows.size
            assert right_rows.size
            assert left_rows[0] <= right_rows[-1] + 1
            assert right_rows[0] <= left_rows[-1] + 1


def test_columns_without_data_are_empty() -> None:
    ivar = flat()
    first, last = divide(0, GRID.n, SIDE)[[30, 49]]
    ivar[0, first[0] : last[1]] = 0.0
    ivar[0, first[0] + 5] = 0.0
    columns = dark(draw("line", flat() * ivar, ivar)[0]).any(axis=0)
    assert np.flatnonzero(~columns).tolist() == list(range(30, 50))


def test_one_wild_pixel_does_not_flatten_the_rest() -> None:
    ramp = torch.linspace(0.0, 2.0, GRID.n)[None]
    wild = ramp.clone()
    wild[0, 2000] = 1e4
    before, after = draw("line", ramp), draw("line", wild)
    # Its own column, the next that is joined to it, and perhaps a rounding.
    assert ((before != after).any(dim=0).any(dim=0)).sum() <= 4


def test_overlap_shows_each_third_in_its_channel() -> None:
    flux = flat()
    flux[0, 1536:3072] = 2.0
    flux[0, 3072:] = 3.0
    blue, middle, red = (np.nonzero(dark(channel))[0] for channel in draw("overlap", flux))
    assert blue.min() > middle.max()
    assert middle.min() > red.max()
    assert np.ptp(blue) == np.ptp(middle) == np.ptp(red) == 0


def test_strip_is_the_line_plot_folded() -> None:
    flux = flat()
    stretch = slice(4608 * 3 // 7 + 1, 4608 * 4 // 7)
    flux[0, stretch] = 2.0
    image = dark(draw("strip", flux)[0])
    rows = [np.flatnonzero(strip[:, SIDE // 2]).tolist() for strip in np.split(image, TOKENS)]
    assert all(len(row) == 1 for row in rows)
    assert rows[3][0] < 4  # high flux at the top of the fourth strip
    assert all(rows[i][0] > 11 for i in (0, 1, 2, 4, 5, 6))


# --- maps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "backwards"), [("standard", False), ("boustrophedon", True)])
def test_blocks_fill_the_raster_in_order(order: maps.Order, backwards: bool) -> None:
    ramp = torch.linspace(0.5, 1.5, GRID.n)[None]
    image = maps.draw(ramp, torch.ones_like(ramp), GRID, TOKENS, paint=maps.raw, order=order)[0, 0]
    side = SIDE // 3
    assert side == 37
    bounds = divide(0, GRID.n, side * side)
    means = np.array([ramp[0, first:last].mean().item() - 1.0 for first, last in bounds])
    expected = means.reshape(side, side)
    if backwards:
        expected[1::2] = expected[1::2, ::-1].copy()
    blocks = image[: 3 * side, : 3 * side].reshape(side, 3, side, 3)
    for y, x in np.ndindex(3, 3):  # the pixels of each block are the same
        assert blocks[:, y, :, x].numpy() == pytest.approx(expected, abs=1e-6)
    assert (image[3 * side :] == -1.0).all()


def test_samples_know_the_order_and_the_block_size() -> None:
    for order in ("standard", "boustrophedon"):
        shown = maps.samples(GRID, TOKENS, order=order, block=4)  # 28 blocks a side, 4 a token
        bounds = divide(0, GRID.n, 28 * 28)
        second_row = bounds[28:56] if order == "standard" else bounds[28:56][::-1]
        assert shown[0, second_row[0, 0]]
        assert not shown[6, second_row[0, 0]]


def test_raw_flux_keeps_its_scale_and_normalised_flux_does_not() -> None:
    ramp = torch.linspace(0.9, 1.1, GRID.n)[None]
    assert draw("map2d", ramp)[0, :111, :111].abs().max() < 0.11
    normalised = draw("map2d-norm", ramp)[0, :111, :111]
    assert normalised.min() == -1.0
    assert normalised.max() == 1.0


def test_blocks_without_data_are_black_and_bad_pixels_weigh_nothing() -> None:
    ivar = flat()
    ivar[0, ::3] = 0.0
    ivar[0, :500] = 0.0
    flux = flat(1.5)
    flux[ivar == 0] = 99.0  # must not be seen
    blocks = draw("map2d", flux, ivar)[0, 1:111:3, 1:111:3].clone()
    blocks[1::2] = blocks[1::2].flip(1)
    blocks = blocks.reshape(-1)
    stop = divide(0, GRID.n, 37 * 37)[:, 1]
    assert (blocks[stop <= 500] == -1.0).all()
    assert torch.allclose(blocks[stop > 504], torch.tensor(0.5))


def test_derivatives_have_their_signs() -> None:
    bump = 1.0 + torch.exp(-0.5 * ((torch.arange(GRID.n) - 2304.0) / 60.0) ** 2)[None]
    _, first, second = draw("map2d-deriv", bump)
    rising, top, falling = (2304 + shift for shift in (-60, 0, 60))

    def at(channel: torch.Tensor, sample: int) -> float:
        number = int(np.searchsorted(divide(0, GRID.n, 37 * 37)[:, 1], sample, side="right"))
        row, column = divmod(number, 37)
        column = 36 - column if row % 2 else column
        return float(channel[3 * row, 3 * column])

    assert at(first, rising) > 0.9
    assert at(first, falling) < -0.9
    assert abs(at(first, top)) < 0.1
    assert at(second, top) < -0.5
    assert at(second, 2304 - 120) > 0.2
    assert at(second, 100) == pytest.approx(0.0, abs=1e-3)


def test_regions_of_interest_are_lines_not_noise_nor_continuum() -> None:
    random = torch.Generator().manual_seed(4)
    slope = torch.linspace(0.5, 1.5, GRID.n)[None]
    noise = 0.1 * torch.randn((1, GRID.n), generator=random)
    ivar = flat(100.0)
    assert (draw("map2d-roi", slope + noise, ivar)[2] < 0).all()
    line = slope + noise
    line[0, 2000:2012] += 1.0
    marked = draw("map2d-roi", line, ivar)[2] > 0
    assert 3 * 9 <= marked.sum() <= 5 * 9  # 12 samples are 3 to 5 blocks of 9 pixels


# --- their tools ----------------------------------------------------------------------------


def test_divide_leaves_nothing_over() -> None:
    assert divide(0, 10, 3).tolist() == [[0, 3], [3, 6], [6, 10]]
    assert divide(5, 7, 4).tolist() == [[5, 6], [5, 6], [6, 7], [6, 7]]


def test_quantiles_are_those_of_the_good_values() -> None:
    values = torch.tensor([[5.0, 1.0, 100.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    good = torch.tensor([[True, True, False, True], [False] * 4])
    low, middle, high = quantiles(values, good, 0.0, 0.5, 1.0)
    assert low.tolist() == [[1.0], [0.0]]
    assert middle.tolist() == [[3.0], [0.0]]
    assert high.tolist() == [[5.0], [0.0]]


# --- real spectra ---------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_file(), reason="the shared real spectra are not here")
def test_real_spectra_fill_their_images() -> None:
    import h5py

    with h5py.File(REAL) as data:
        flux, ivar = (
            torch.from_numpy(data[key][:60, 60:4668].astype("f4")) for key in ("flux", "ivar")
        )
    flux = flux * (ivar > 0)
    for name in IMAGES:
        images = render(name, flux, ivar, GRID)
        assert images.isfinite().all()
        if name in PLOTS:
            share = (images[:, 0] < 0).float().mean(dim=(1, 2))
            assert ((share > 0.005) & (share < 0.6)).all(), name
        else:
            assert (images.std(dim=(1, 2, 3)) > 0.01).all(), name
