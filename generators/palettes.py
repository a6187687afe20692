"""The palette sampler: which class proportions occur (Le Moing et al., 2021, section 4.1 and appendix F)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from typing_extensions import Doc

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.storage.files import read_json, write_json

Projection = Literal["clip", "exact"]


def project_by_clipping(vectors: np.ndarray) -> np.ndarray:
    """Clip to [0, 1] and divide by the sum: the paper's rough projection to the simplex (appendix F).

    Args:
        vectors: [..., K]. A vector without a positive entry becomes the uniform palette.

    Returns:
        [..., K], non-negative, summing to 1.
    """
    clipped = np.clip(vectors, 0.0, 1.0)
    total = clipped.sum(axis=-1, keepdims=True)
    uniform = np.full_like(clipped, 1.0 / clipped.shape[-1])
    return np.where(total > 0, clipped / np.where(total > 0, total, 1.0), uniform)


def project_exactly(vectors: np.ndarray) -> np.ndarray:
    """Return the nearest point of the simplex in Euclidean distance, in closed form by sorting.

    Held, Wolfe and Crowder, "Validation of subgradient optimization", Mathematical Programming 6, 1974.

    Args:
        vectors: [..., K].

    Returns:
        [..., K], non-negative, summing to 1.
    """
    descending = -np.sort(-vectors, axis=-1)
    excess = np.cumsum(descending, axis=-1) - 1.0
    ranks = np.arange(1, vectors.shape[-1] + 1)
    support = np.count_nonzero(descending - excess / ranks > 0, axis=-1, keepdims=True)
    threshold = np.take_along_axis(excess, support - 1, axis=-1) / support
    return np.maximum(vectors - threshold, 0.0)


_PROJECTIONS = {"clip": project_by_clipping, "exact": project_exactly}


def interpolate_palettes(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """Return `steps` palettes on the straight line from the first to the second, both included.

    Args:
        first: [K].
        second: [K].
        steps: At least 2.

    Returns:
        [steps, K].
    """
    share = np.linspace(0.0, 1.0, steps)[:, None]
    return (1.0 - share) * first + share * second


@dataclass(frozen=True)
class PaletteControls:
    """Constraints on sampled palettes, by class name; the keys of the configuration are made from them."""

    projection: Annotated[Projection, Doc("How palettes are projected onto the simplex.")] = "clip"
    ban: Annotated[tuple[str, ...], Doc("Classes that must not occur in full layouts.")] = ()
    minimum: Annotated[dict[str, float], Doc("Least share per class in full layouts.")] = field(default_factory=dict)
    bias: Annotated[dict[str, float], Doc("Shift per class in standard deviations, in full layouts.")] = field(
        default_factory=dict
    )
    palette: Annotated[
        dict[str, float], Doc("Shares that sum to 1: the palette of every full layout, in place of sampled ones.")
    ] = field(default_factory=dict)


def control_problems(controls: PaletteControls, class_names: tuple[str, ...]) -> list[str]:
    """Return what is wrong with wishes about palettes of the given classes, one text per problem."""
    named = {"ban": controls.ban, "minimum": controls.minimum, "bias": controls.bias, "palette": controls.palette}
    problems = [
        f"{kind}: unknown class {name!r}; classes are {', '.join(class_names)}"
        for kind, names in named.items()
        for name in names
        if name not in class_names
    ]
    if set(controls.ban) >= set(class_names):
        problems.append("ban: every class is banned; leave at least one")
    problems += [f"minimum: {name} is also banned" for name in controls.minimum if name in controls.ban]
    if any(value < 0 for value in controls.minimum.values()) or sum(controls.minimum.values()) > 1 + 1e-9:
        problems.append(f"minimum: shares must be in [0, 1] and sum to at most 1, got {controls.minimum}")
    if controls.palette and (controls.ban or controls.minimum or controls.bias):
        problems.append("palette: it leaves nothing to choose; give it without ban, minimum and bias")
    total = sum(controls.palette.values())
    if controls.palette and not (abs(total - 1.0) <= 1e-3 and min(controls.palette.values()) >= 0):
        problems.append(
            f"palette: shares must not be negative and must sum to 1, got {controls.palette}, which sums to {total:.4f}"
        )
    return problems


@dataclass(frozen=True)
class PaletteSampler:
    """A Gaussian mixture over class proportions whose samples are projected to the simplex.

    Attributes:
        class_names: K names.
        weights: [M] component weights, summing to 1.
        means: [M, K].
        covariances: [M, K, K].
        aic: Akaike information criterion for 1, 2, ... components, as far as they could be fitted.
    """

    class_names: tuple[str, ...]
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    aic: tuple[float, ...]

    @property
    def num_components(self) -> int:
        """Number of mixture components M."""
        return len(self.weights)

    def sample(self, generator: np.random.Generator, count: int, controls: PaletteControls | None = None) -> np.ndarray:
        """Draw palettes.

        Args:
            generator: Source of randomness.
            count: How many.
            controls: Wishes about the palettes.

        Returns:
            float64 [count, K], rows non-negative and summing to 1.

        Raises:
            ConfigError: The controls name an unknown class or cannot be met.
        """
        controls = controls or PaletteControls()
        if problems := control_problems(controls, self.class_names):
            raise ConfigError("The palette controls cannot be used.", problems)
        if controls.palette:
            shares = np.array([controls.palette.get(name, 0.0) for name in self.class_names])
            return np.tile(shares / shares.sum(), (count, 1))
        components = generator.choice(self.num_components, size=count, p=self.weights)
        normal = generator.standard_normal((count, len(self.class_names)))
        factors = np.stack([_factor(covariance) for covariance in self.covariances])
        vectors = self.means[components] + np.einsum("nij,nj->ni", factors[components], normal)
        deviations = self._deviations()
        for name, shift in controls.bias.items():
            index = self.class_names.index(name)
            vectors[:, index] += shift * deviations[index]
        return self.constrained(vectors, controls)

    def constrained(self, vectors: np.ndarray, controls: PaletteControls | None = None) -> np.ndarray:
        """Project vectors to palettes without banned classes and with the least shares that are asked for.

        Args:
            vectors: float [N, K].
            controls: Say which; `bias` and `palette` have no effect.

        Returns:
            float64 [N, K], rows non-negative and summing to 1.
        """
        controls = controls or PaletteControls()
        banned = [self.class_names.index(name) for name in controls.ban]
        allowed = np.setdiff1d(np.arange(len(self.class_names)), banned)
        palettes = np.zeros(vectors.shape)
        palettes[:, allowed] = _PROJECTIONS[controls.projection](vectors[:, allowed])
        return self._with_minimum(palettes, controls.minimum)

    def _with_minimum(self, palettes: np.ndarray, minimum: dict[str, float]) -> np.ndarray:
        """Raise shares to their minimum and take what they need from what others have above theirs."""
        if not minimum:
            return palettes
        floor = np.array([minimum.get(name, 0.0) for name in self.class_names])
        above = np.maximum(palettes - floor, 0.0)
        total = above.sum(axis=1, keepdims=True)
        spare = np.where(total > 0, above / np.where(total > 0, total, 1.0), 1.0 / len(floor))
        # Minima that sum to 1 may be added up to a little more.
        return floor + max(0.0, 1.0 - floor.sum()) * spare

    def _deviations(self) -> np.ndarray:
        """Standard deviation of each class's share in the whole mixture, [K]."""
        mean = self.weights @ self.means
        second = self.weights @ (np.diagonal(self.covariances, axis1=1, axis2=2) + self.means**2)
        return np.sqrt(np.maximum(second - mean**2, 0.0))

    def save(self, path: Path) -> None:
        """Write the mixture as JSON, atomically."""
        write_json(
            path,
            {
                "format": "scenepalette palette sampler 1",
                "class_names": list(self.class_names),
                "weights": self.weights.tolist(),
                "means": self.means.tolist(),
                "covariances": self.covariances.tolist(),
                "aic": list(self.aic),
            },
        )

    @classmethod
    def load(cls, path: Path) -> PaletteSampler:
        """Read a mixture written by `save`; nothing in the file is executed.

        Raises:
            ScenepaletteError: The file is damaged or is no palette sampler.
        """
        content = read_json(path)
        try:
            sampler = cls(
                class_names=tuple(str(name) for name in content["class_names"]),
                weights=np.asarray(content["weights"], dtype=np.float64),
                means=np.asarray(content["means"], dtype=np.float64),
                covariances=np.asarray(content["covariances"], dtype=np.float64),
                aic=tuple(float(value) for value in content["aic"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ScenepaletteError(f"{path} is not a palette sampler ({error}). Fit the palettes again.") from error
        count, classes = sampler.weights.size, len(sampler.class_names)
        shapes = (sampler.weights.shape, sampler.means.shape, sampler.covariances.shape)
        if shapes != ((count,), (count, classes), (count, classes, classes)) or not all(
            np.all(np.isfinite(array)) for array in (sampler.weights, sampler.means, sampler.covariances)
        ):
            raise ScenepaletteError(f"{path} has parts that do not fit together. Fit the palettes again.")
        return sampler


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Return L with L @ L.T == covariance, also for a covariance of lower rank."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def fit_palette_sampler(
    palettes: np.ndarray, class_names: tuple[str, ...], max_components: int = 30, seed: int = 0
) -> PaletteSampler:
    """Fit mixtures with full covariances by EM and keep the one with the least AIC (appendix F).

    Args:
        palettes: [N, K] class proportions of real layouts, rows summing to 1.
        class_names: K names.
        max_components: Largest number of components tried; never more than N / 2, so that none is a single sample.
        seed: Seed of the k-means starts.

    Raises:
        DataError: Fewer than 2 palettes, or rows that do not sum to 1.
    """
    palettes = np.asarray(palettes, dtype=np.float64)
    if len(palettes) < 2 or palettes.shape[1:] != (len(class_names),):
        raise DataError(
            f"Fitting palettes needs at least 2 rows of {len(class_names)} shares, got an array of {palettes.shape}."
        )
    wrong = np.flatnonzero(np.abs(palettes.sum(axis=1) - 1.0) > 1e-3)
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {len(palettes)} palettes do not sum to 1; the first is row {wrong[0]}, which sums to "
            f"{palettes[wrong[0]].sum():.4f}. Divide each by its sum."
        )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    best: GaussianMixture | None = None
    aic: list[float] = []
    for components in range(1, max(1, min(max_components, len(palettes) // 2)) + 1):
        mixture = GaussianMixture(components, covariance_type="full", random_state=seed, reg_covar=1e-6, max_iter=200)
        # Matrices are small: threads that multiply them mostly wait for each other, for long where the machine is busy.
        with threadpool_limits(1), warnings.catch_warnings():
            # Mixtures with too many components may not converge; their AIC rules them out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(palettes)
        aic.append(float(mixture.aic(palettes)))
        if best is None or aic[-1] < min(aic[:-1]):
            best = mixture
    assert best is not None
    return PaletteSampler(
        tuple(class_names),
        np.asarray(best.weights_),
        np.asarray(best.means_),
        np.asarray(best.covariances_),
        tuple(aic),
    )


def reached_shares(target: np.ndarray, achieved: np.ndarray) -> np.ndarray:
    """Return how much of its asked share each class gets, over all layouts: [K], nan for a class never asked for.

    The mean of the achieved shares is divided by that of the asked ones, so that layouts that ask for a trace of a
    class weigh as little as they should.

    Args:
        target: [M, K], rows summing to 1.
        achieved: [M, K], the shares in the hard layouts.
    """
    asked, got = (np.asarray(shares, dtype=np.float64).mean(axis=0) for shares in (target, achieved))
    return np.divide(got, asked, out=np.full(target.shape[1], np.nan), where=asked > 0)


def palette_divergence(target: np.ndarray, achieved: np.ndarray, smoothing: float = 1e-5) -> np.ndarray:
    """Return KL(target, achieved) in nats, the papers' measure of how well a layout keeps to its palette.

    Args:
        target: [..., K], rows summing to 1.
        achieved: [..., K], the shares in the hard layout.
        smoothing: Added to every achieved share before they are normalised again, so that a missing class costs a
            finite amount.

    Returns:
        [...], 0 where the palettes agree up to the smoothing.
    """
    target, achieved = np.asarray(target, dtype=np.float64), np.asarray(achieved, dtype=np.float64)
    smoothed = achieved + smoothing
    smoothed = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return np.sum(np.where(target > 0, target * np.log(np.where(target > 0, target, 1.0) / smoothed), 0.0), axis=-1)
