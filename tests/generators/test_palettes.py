from __future__ import annotations

import itertools
import json
import math
import operator
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import minimize

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.generators.palettes import (
    PaletteControls,
    PaletteSampler,
    Projection,
    fit_palette_sampler,
    interpolate_palettes,
    palette_divergence,
    project_by_clipping,
    project_exactly,
    reached_shares,
)

NAMES = ("road", "car", "sky", "tree")


def make_sampler(spread: float = 0.05) -> PaletteSampler:
    generator = np.random.default_rng(0)
    parts = generator.normal(size=(2, 4, 4)) * spread
    return PaletteSampler(
        NAMES,
        weights=np.array([0.25, 0.75]),
        means=np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]),
        covariances=parts @ parts.transpose(0, 2, 1),
        aic=(1.0, 0.0),
    )


def draw(count: int = 200, seed: int = 0, **options: object) -> np.ndarray:
    return make_sampler().sample(np.random.default_rng(seed), count, **options)  # type: ignore[arg-type]


def assert_palettes(palettes: np.ndarray) -> None:
    assert palettes.min() >= 0.0
    np.testing.assert_allclose(palettes.sum(axis=-1), 1.0, atol=1e-12)


def nearest_by_supports(vector: np.ndarray) -> np.ndarray:
    """Return the nearest point of the simplex by trying every set of positive entries (KKT conditions)."""
    best, least = vector, math.inf
    for count in range(1, len(vector) + 1):
        for support in map(list, itertools.combinations(range(len(vector)), count)):
            candidate = np.zeros_like(vector)
            candidate[support] = vector[support] + (1.0 - vector[support].sum()) / count
            distance = float(((candidate - vector) ** 2).sum())
            if candidate.min() >= 0 and distance < least:
                best, least = candidate, distance
    return best


@pytest.mark.parametrize("seed", range(20))
def test_exact_projection_is_the_nearest_point_of_the_simplex(seed: int) -> None:
    vector = np.random.default_rng(seed).normal(0.2, 0.6, size=5)
    projected = project_exactly(vector)
    assert_palettes(projected)
    np.testing.assert_allclose(projected, nearest_by_supports(vector), atol=1e-12)


def test_exact_projection_agrees_with_a_numerical_optimiser() -> None:
    vector = np.array([0.9, -0.3, 0.4, 0.05])
    found = minimize(
        lambda x: ((x - vector) ** 2).sum(),
        np.full(4, 0.25),
        jac=lambda x: 2 * (x - vector),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(project_exactly(vector), found.x, atol=1e-6)
    np.testing.assert_allclose(project_exactly(vector), [0.75, 0.0, 0.25, 0.0], atol=1e-12)  # by hand: minus 0.15


def test_clipping_by_hand() -> None:
    vectors = np.array([[0.5, -0.2, 1.5], [-1.0, -2.0, -3.0], [0.2, 0.3, 0.5]])
    expected = [[1 / 3, 0, 2 / 3], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.3, 0.5]]
    np.testing.assert_allclose(project_by_clipping(vectors), expected)


@pytest.mark.parametrize("project", [project_by_clipping, project_exactly])
def test_projections_keep_palettes_and_take_any_leading_shape(project: object) -> None:
    palettes = np.random.default_rng(0).dirichlet(np.ones(6), size=(3, 4))
    assert callable(project)
    np.testing.assert_allclose(project(palettes), palettes, atol=1e-12)
    vectors = np.random.default_rng(1).normal(size=(3, 4, 6))
    projected = project(vectors)
    assert_palettes(projected)
    np.testing.assert_array_equal(projected[1, 2], project(vectors[1, 2]))


def test_exact_projection_is_never_farther_than_clipping() -> None:
    vectors = np.random.default_rng(2).normal(0.1, 0.4, size=(200, 6))
    exact = ((project_exactly(vectors) - vectors) ** 2).sum(axis=1)
    clipped = ((project_by_clipping(vectors) - vectors) ** 2).sum(axis=1)
    assert np.all(exact <= clipped + 1e-12)
    assert np.mean(exact < clipped - 1e-6) > 0.5


def test_interpolation_by_hand() -> None:
    result = interpolate_palettes(np.array([1.0, 0.0]), np.array([0.2, 0.8]), 5)
    np.testing.assert_allclose(result, [[1, 0], [0.8, 0.2], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])


@pytest.mark.parametrize("projection", ["clip", "exact"])
def test_samples_are_palettes_and_a_function_of_the_generator(projection: Projection) -> None:
    first = draw(controls=PaletteControls(projection))
    assert first.shape == (200, 4)
    assert_palettes(first)
    np.testing.assert_array_equal(first, draw(controls=PaletteControls(projection)))
    assert not np.array_equal(first, draw(seed=1, controls=PaletteControls(projection)))


def test_samples_follow_the_mixture() -> None:
    # Means far from the border and little spread: hardly anything is projected.
    parts = np.diag([0.02, 0.01, 0.0, 0.0])
    centred = parts - parts.mean(axis=0)  # columns sum to 0: samples stay on the simplex
    sampler = PaletteSampler(
        NAMES,
        np.array([0.3, 0.7]),
        np.array([[0.4, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.4]]),
        np.stack([centred @ centred.T] * 2),
        (),
    )
    palettes = sampler.sample(np.random.default_rng(0), 20_000)
    first = palettes[:, 0] > palettes[:, 3]
    assert first.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(palettes[first].mean(axis=0), sampler.means[0], atol=1e-3)
    np.testing.assert_allclose(np.cov(palettes[first].T), sampler.covariances[0], atol=1e-5)
    np.testing.assert_allclose(sampler._deviations(), palettes.std(axis=0), rtol=0.02)


def test_aic_finds_the_number_of_clusters() -> None:
    generator = np.random.default_rng(3)
    centres = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.34, 0.33, 0.33]])
    clusters = [generator.dirichlet(300 * centre, size=150) for centre in centres]
    sampler = fit_palette_sampler(np.concatenate(clusters), NAMES[:3], max_components=7)
    assert sampler.num_components == 4
    assert len(sampler.aic) == 7
    assert int(np.argmin(sampler.aic)) == 3
    order = [int(np.argmin(((sampler.means - centre) ** 2).sum(axis=1))) for centre in centres]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(sampler.means[order], centres, atol=0.01)
    np.testing.assert_allclose(sampler.weights, 0.25, atol=0.01)
    expected = np.cov(clusters[0].T, ddof=0) + 1e-6 * np.eye(3)
    np.testing.assert_allclose(sampler.covariances[order[0]], expected, atol=1e-6)


def test_aic_of_one_component_by_hand() -> None:
    palettes = np.random.default_rng(4).dirichlet(np.full(3, 20.0), size=40)
    sampler = fit_palette_sampler(palettes, NAMES[:3], max_components=1)
    covariance = np.cov(palettes.T, ddof=0) + 1e-6 * np.eye(3)
    centred = palettes - palettes.mean(axis=0)
    quadratic = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    log_density = -0.5 * (quadratic + math.log(np.linalg.det(covariance)) + 3 * math.log(2 * math.pi))
    # 3 means, 6 different covariances, no free weight.
    assert sampler.aic == pytest.approx([2 * 9 - 2 * log_density.sum()], rel=1e-6)


@pytest.mark.parametrize(("count", "tried"), [(2, 1), (3, 1), (9, 4), (40, 6)])
def test_no_more_components_are_tried_than_half_the_palettes(count: int, tried: int) -> None:
    palettes = np.random.default_rng(5).dirichlet(np.ones(3), size=count)
    assert len(fit_palette_sampler(palettes, NAMES[:3], max_components=6).aic) == tried


def test_fitting_is_a_function_of_data_and_seed() -> None:
    palettes = np.random.default_rng(6).dirichlet(np.ones(4), size=60)
    first, second = (fit_palette_sampler(palettes, NAMES, max_components=5, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.covariances, second.covariances)


def test_palettes_that_cannot_be_fitted_are_refused() -> None:
    good = np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    with pytest.raises(DataError, match="at least 2 rows of 4 shares"):
        fit_palette_sampler(good[:1], NAMES)
    with pytest.raises(DataError, match="at least 2 rows of 4 shares"):
        fit_palette_sampler(good[:, :3], NAMES)
    bad = good.copy()
    bad[2] *= 1.5
    with pytest.raises(DataError, match=r"1 of 5 palettes .* row 2, which sums to 1\.5000"):
        fit_palette_sampler(bad, NAMES)


def test_palettes_that_are_all_alike_can_be_fitted_and_sampled() -> None:
    palettes = np.tile([0.5, 0.5, 0.0, 0.0], (12, 1))
    sampled = fit_palette_sampler(palettes, NAMES).sample(np.random.default_rng(0), 50)
    assert_palettes(sampled)
    np.testing.assert_allclose(sampled.mean(axis=0), palettes[0], atol=0.01)


@pytest.mark.parametrize("projection", ["clip", "exact"])
def test_banned_classes_do_not_occur(projection: Projection) -> None:
    palettes = draw(controls=PaletteControls(projection, ban=("sky", "car")))
    assert palettes[:, [1, 2]].max() == 0.0
    assert_palettes(palettes)
    assert len(np.unique(palettes.round(6), axis=0)) > 100


def test_the_only_class_left_gets_everything() -> None:
    palettes = draw(controls=PaletteControls(ban=("sky", "car", "road")))
    np.testing.assert_array_equal(palettes, np.tile([0.0, 0.0, 0.0, 1.0], (200, 1)))


def test_minimum_shares_are_kept_and_the_rest_stays_in_proportion() -> None:
    free = draw()
    palettes = draw(controls=PaletteControls(minimum={"car": 0.3}))
    assert palettes[:, 1].min() >= 0.3 - 1e-12
    assert_palettes(palettes)
    poor = free[:, 1] < 0.3
    others = [0, 2, 3]
    shares = free[poor][:, others] / free[poor][:, others].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(palettes[poor][:, others], 0.7 * shares, atol=1e-12)


def test_minimum_shares_that_use_everything_are_exact() -> None:
    # In some orders of addition these sum to 1, in others to 1.0000000000000002: no class may end below 0.
    shares = {"car": 0.07, "sky": 0.03, "tree": 0.79, "sign": 0.11}
    orders = list(itertools.permutations(shares))
    # `reduce`, because `sum` adds floats without this error from Python 3.12 on.
    assert len({reduce(operator.add, (shares[name] for name in order)) for order in orders}) > 1
    for order in orders:
        sampler = PaletteSampler(("road", *order), np.ones(1), np.full((1, 5), 0.2), np.eye(5)[None] * 0.01, ())
        controls = PaletteControls(minimum={name: shares[name] for name in order})
        palettes = sampler.sample(np.random.default_rng(0), 20, controls=controls)
        assert palettes.min() >= 0.0
        np.testing.assert_allclose(palettes, np.tile([0.0, *(shares[name] for name in order)], (20, 1)), atol=1e-12)


def test_a_bias_shifts_its_class_by_deviations_of_the_mixture() -> None:
    sampler = make_sampler(spread=0.0)  # palettes are the two means; the deviation comes from their weights
    deviation = math.sqrt(0.25 * 0.75) * 0.6  # of road: 0.7 with weight 1/4, 0.1 with weight 3/4
    np.testing.assert_allclose(sampler._deviations()[0], deviation)
    palettes = sampler.sample(np.random.default_rng(0), 50, controls=PaletteControls(bias={"road": 1.0}))
    shifted = [np.array([0.7 + deviation, 0.1, 0.1, 0.1]), np.array([0.1 + deviation, 0.2, 0.3, 0.4])]
    expected = {tuple((v / v.sum()).round(9)) for v in shifted}
    assert {tuple(palette.round(9)) for palette in palettes} == expected
    less = sampler.sample(np.random.default_rng(0), 50, controls=PaletteControls(bias={"road": -9.0}))
    assert less[:, 0].max() == 0.0


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (PaletteControls(ban=("boat",)), "ban: unknown class 'boat'; classes are road, car, sky, tree"),
        (PaletteControls(minimum={"boat": 0.1}), "minimum: unknown class 'boat'"),
        (PaletteControls(bias={"boat": 0.1}), "bias: unknown class 'boat'"),
        (PaletteControls(ban=NAMES), "every class is banned"),
        (PaletteControls(ban=("car",), minimum={"car": 0.1}), "car is also banned"),
        (PaletteControls(minimum={"car": 0.6, "sky": 0.6}), "sum to at most 1"),
        (PaletteControls(minimum={"car": -0.1}), "must be in"),
        (PaletteControls(palette={"boat": 1.0}), "palette: unknown class 'boat'"),
        (PaletteControls(palette={"road": 0.5, "sky": 0.4}), "sums to 0.9000"),
        (PaletteControls(palette={"road": 1.5, "sky": -0.5}), "must not be negative"),
        (PaletteControls(palette={"road": math.nan, "sky": 1.0}), "must sum to 1"),
        (PaletteControls(palette={"road": 1.0}, ban=("sky",)), "without ban, minimum and bias"),
    ],
)
def test_controls_that_cannot_be_met_are_refused(controls: PaletteControls, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draw(controls=controls)


def test_a_fixed_palette_takes_the_place_of_sampled_ones() -> None:
    palettes = draw(controls=PaletteControls(palette={"sky": 0.75, "road": 0.25}))
    expected = [{"sky": 0.75, "road": 0.25}.get(name, 0.0) for name in NAMES]
    assert len(palettes) > 1
    np.testing.assert_allclose(palettes, np.tile(expected, (len(palettes), 1)))


def test_all_problems_of_controls_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        draw(controls=PaletteControls(ban=("boat",), minimum={"moon": 0.1}, palette={"sun": 1.0}))
    assert len(raised.value.problems) == 4


def test_save_and_load_give_the_same_samples(tmp_path: Path) -> None:
    sampler = fit_palette_sampler(np.random.default_rng(0).dirichlet(np.ones(4), size=50), NAMES, max_components=4)
    path = tmp_path / "palettes.json"
    sampler.save(path)
    assert json.loads(path.read_text(encoding="utf-8"))["class_names"] == list(NAMES)  # plain JSON, no pickle
    loaded = PaletteSampler.load(path)
    assert loaded.class_names == NAMES
    assert loaded.aic == sampler.aic
    samples = [s.sample(np.random.default_rng(1), 20) for s in (sampler, loaded)]
    np.testing.assert_array_equal(samples[0], samples[1])


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "is not valid JSON"),
        (lambda text: "[1, 2]", "is not a palette sampler"),
        (lambda text: text.replace('"means"', '"middles"'), "is not a palette sampler"),
        (lambda text: text.replace('"tree"', '"tree", "boat"'), "do not fit together"),
        (lambda text: json.dumps(json.loads(text) | {"weights": 1.0}), "do not fit together"),
        (lambda text: text.replace("0.25", "NaN", 1), "do not fit together"),
        (lambda text: json.dumps(json.loads(text) | {"weights": [10**400]}), "is not a palette sampler"),
        (lambda text: "\x80\x04\x95", "is not"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(damage: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "palettes.json"
    make_sampler().save(path)
    assert callable(damage)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ScenepaletteError, match=words) as raised:
        PaletteSampler.load(path)
    assert "palettes.json" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenepaletteError, match=r"palettes\.json: No such file"):
        PaletteSampler.load(tmp_path / "palettes.json")


def test_divergence_against_scipy() -> None:
    random = np.random.default_rng(0)
    target, achieved = random.dirichlet(np.ones(6), 4), random.dirichlet(np.ones(6), 4)
    expected = scipy.stats.entropy(target, achieved + 1e-5, axis=1)  # scipy normalises both
    np.testing.assert_allclose(palette_divergence(target, achieved), expected, rtol=1e-12)


def test_divergence_limits() -> None:
    target = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    achieved = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    same, missing = palette_divergence(target, achieved)
    assert same == pytest.approx(0.0, abs=5e-5)
    assert missing == pytest.approx(math.log((1 + 3e-5) / 1e-5), rel=1e-9)


def test_reached_shares_by_hand() -> None:
    target = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]])
    achieved = np.array([[0.7, 0.3, 0.0], [0.98, 0.0, 0.02]])
    np.testing.assert_allclose(reached_shares(target, achieved), [1.68 / 1.4, 0.3 / 0.6, np.nan])
