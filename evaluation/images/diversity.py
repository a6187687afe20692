"""Diversity of images of one layout: MS-SSIM, LPIPS (Schönfeld et al., 2021), variance per class (Li et al., 2019).

The images of one layout are N images uint8 [N, H, W, 3] that were drawn for the same label map. K is the number of
classes.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.errors import DataError
from scenepalette.common.storage.downloads import load_published
from scenepalette.common.storage.files import temporary_folder
from scenepalette.evaluation.images.image_checks import check_images, labelled_pixels

# Exponents of the five scales, from fine to coarse (Wang et al., 2003, section 3.2).
SCALE_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Pixels of the Gaussian window of SSIM, each way.
WINDOW = 11
# Below this size AlexNet's last pooling has nothing left to look at.
LPIPS_SMALLEST_SIDE = 31
PAIRS_AT_ONCE = 32


def alexnet_url() -> str:
    """Return where torchvision publishes the weights of LPIPS' backbone."""
    from torchvision.models import AlexNet_Weights

    return AlexNet_Weights.IMAGENET1K_V1.url


def number_of_scales(height: int, width: int) -> int:
    """Return how many scales of MS-SSIM images of a size allow, 5 at most.

    torchmetrics takes n scales if the shorter side is at least 11 times the larger of 1 and (n - 1)^2; where n > 1, the
    image at the coarsest scale must also hold the window of 11 pixels. So 3 scales need 44 pixels, 4 need 99, and the 5
    of Wang et al., 2003 need 176.

    Returns:
        1 to 5.

    Raises:
        DataError: The images are smaller than the window.
    """
    side = min(height, width)
    if side < WINDOW:
        raise DataError(
            f"MS-SSIM compares windows of {WINDOW} x {WINDOW} pixels; received images of {height} x {width}. Generate "
            "larger images."
        )
    return max(n for n in range(1, 6) if side >= WINDOW * max((n - 1) ** 2, 2 ** (n - 1)))


def mean_pairwise_ms_ssim(images: np.ndarray, device: torch.device | str = "cpu") -> float:
    """Return the mean multi-scale structural similarity over all pairs of images of one layout.

    Schönfeld et al., 2021, 4.1, takes 20 images per layout and averages over all layouts; the lower, the more diverse.
    With fewer than five scales the exponents of the finest ones are used, scaled to sum to 1 as all five do. Values
    from different numbers of scales cannot be compared with each other.

    Args:
        images: uint8 [N, H, W, 3], N >= 2.
        device: Where it is computed.

    Returns:
        Similarity in [0, 1], 1 for equal images. Structure that is opposed on average at some scale counts as 0.

    Raises:
        DataError: These are not at least 2 images, or they are smaller than the window.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    _check_draws(images)
    chosen = SCALE_EXPONENTS[: number_of_scales(*images.shape[1:3])]
    exponents = tuple(value / sum(chosen) for value in chosen)
    # SSIM is defined for intensities from 0 upwards.
    values = _to_tensor(images, device) / 255
    total = 0.0
    with torch.inference_mode():
        for first, second in _pairs(len(images)):
            similarity = multiscale_structural_similarity_index_measure(
                values[first], values[second], reduction="sum", data_range=1.0, betas=exponents, normalize="relu"
            )
            total += float(similarity)
    return total / (len(images) * (len(images) - 1) / 2)


def mean_pairwise_difference(images: np.ndarray) -> float:
    """Return the mean absolute difference between images of one layout, over all pairs of them.

    Args:
        images: uint8 [N, H, W, 3], N >= 2.

    Returns:
        Grey levels, 0 to 255.

    Raises:
        DataError: These are not at least 2 images.
    """
    _check_draws(images)
    values = images.astype(np.float64)
    return float(np.mean([np.abs(first - second).mean() for first, second in itertools.combinations(values, 2)]))


def load_lpips(weights_path: Path | None = None) -> nn.Module:
    """Load LPIPS with its AlexNet backbone.

    The linear layers on top come with torchmetrics, the backbone is torchvision's.

    Args:
        weights_path: torchvision's file of AlexNet weights (ImageNet); None takes it from torch.hub's folder or
            downloads it there.

    Returns:
        What `mean_pairwise_lpips` takes.

    Raises:
        AbsentError: The weights cannot be downloaded or loaded.
    """
    return load_published("AlexNet", alexnet_url(), _build_lpips, weights_path)


def mean_pairwise_lpips(images: np.ndarray, network: nn.Module) -> float:
    """Return the mean learned perceptual distance over all pairs of images of one layout.

    Schönfeld et al., 2021, 4.1, takes 20 images per layout and averages over all layouts; the higher, the more diverse.

    Args:
        images: uint8 [N, H, W, 3], N >= 2, at least 31 pixels each way.
        network: Result of `load_lpips`; runs where it is.

    Returns:
        Distance >= 0, 0 for equal images.

    Raises:
        DataError: These are not at least 2 images, or they are too small.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    assert isinstance(network, LearnedPerceptualImagePatchSimilarity)
    _check_draws(images)
    if min(images.shape[1:3]) < LPIPS_SMALLEST_SIDE:
        raise DataError(
            f"LPIPS needs images of at least {LPIPS_SMALLEST_SIDE} pixels each way; received {images.shape[1]} x "
            f"{images.shape[2]}. Generate larger images."
        )
    values = _to_tensor(images, network.device) / 127.5 - 1
    network.reset()
    with torch.inference_mode():
        for first, second in _pairs(len(images)):
            network.update(values[first], values[second])
        return float(network.compute())


def class_variance(images: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the variance of the images of one layout, per class (Li et al., 2019, 4.3).

    It is the variance over the images of each pixel and colour channel, averaged over the channels and the pixels of a
    class. The paper takes the mean over layouts, and states it times 100 in Table 1.

    Args:
        images: uint8 [N, H, W, 3], N >= 2.
        label: Their label map, integers [H, W]; pixels of `IGNORE_ID` are left out.
        num_classes: K.

    Returns:
        float64 [K], in squared units of intensities in [0, 1]; nan for a class that the layout does not show.

    Raises:
        DataError: These are not at least 2 images, or the label map does not fit them.
    """
    _check_draws(images)
    labelled = labelled_pixels(label, images.shape[1:3], num_classes)
    variance = (images / 255.0).var(axis=0).mean(axis=-1)  # H W
    pixels = np.bincount(label[labelled], minlength=num_classes)
    sums = np.bincount(label[labelled], weights=variance[labelled], minlength=num_classes)
    return np.divide(sums, pixels, out=np.full(num_classes, np.nan), where=pixels > 0)


def _check_draws(images: np.ndarray) -> None:
    check_images(images, "The images of a layout")
    if len(images) < 2:
        raise DataError(
            f"Diversity is measured between images of one layout, at least 2; received {len(images)}. Draw more."
        )


def _to_tensor(images: np.ndarray, device: torch.device | str) -> Tensor:
    """Return float32 B3HW in [0, 255]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(device).float()


def _pairs(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the indices of all pairs of different images, a bounded number at once."""
    first, second = torch.triu_indices(count, count, offset=1)
    yield from zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True)


def _build_lpips(path: Path) -> nn.Module:
    """Build LPIPS from a file of AlexNet weights."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    # torchmetrics takes no path: it asks torchvision, which looks in torch.hub's folder. It is shown one that holds
    # this file alone, under the name that is looked for.
    folder_before = torch.hub.get_dir()
    with temporary_folder("weights") as folder:
        (folder / "checkpoints").mkdir()
        shutil.copyfile(path, folder / "checkpoints" / alexnet_url().rpartition("/")[2])
        torch.hub.set_dir(str(folder))
        try:
            return LearnedPerceptualImagePatchSimilarity(net_type="alex")
        finally:
            torch.hub.set_dir(folder_before)
