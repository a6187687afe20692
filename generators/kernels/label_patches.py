"""Convolutions of a label map once per distinct label patch, exactly, in place of once per pixel.

Without noise per pixel, the condition of SPADE's modulations takes few distinct vectors: one per class, or per class
and image. Scale and shift of a pixel follow from the 5x5 conditions around it through two 3x3 convolutions, so that
pixels with the same 5x5 surroundings share them, and real layouts have few distinct surroundings.

Shapes: B batch, L condition channels, H x W pixels, P = BHW pixels in a row, S symbols, M hidden channels, O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.generators.kernels.dispatch import TUNING

# Above this share of distinct 3x3 surroundings a convolution over all pixels is cheaper.
DENSE_SHARE = 0.8
OUTPUTS_AT_ONCE = 256  # so many that products stay in cache until they are summed
DENSE_TABLE = 4  # times as many possible triples as pixels may be counted in a table; sorting is cheaper above


class SymbolMap(NamedTuple):
    """A condition map BLHW that takes few distinct vectors.

    Attributes:
        ids: int64 BHW, the number of each pixel's vector, 0 .. S-1.
        vectors: SL.
    """

    ids: Tensor
    vectors: Tensor

    def of_images(self, first: int, stop: int) -> SymbolMap:
        """Return the map of some images, with the vectors that they use."""
        ids = self.ids[first:stop]
        used = torch.zeros(len(self.vectors), dtype=torch.bool, device=ids.device)
        used[ids.flatten()] = True
        return SymbolMap((used.cumsum(0) - 1)[ids], self.vectors[used])

    def resized(self, size: tuple[int, int]) -> SymbolMap:
        """Return the map at another size, by nearest pixels as `F.interpolate` takes them."""
        if self.ids.shape[1:] == size:
            return self
        # float32 counts exactly up to 2^24, far more than there are symbols.
        ids = F.interpolate(self.ids[:, None].float(), size=size, mode="nearest")
        return SymbolMap(ids[:, 0].long(), self.vectors)

    def dense(self) -> Tensor:
        """Return the map itself, BLHW."""
        return self.vectors[self.ids].permute(0, 3, 1, 2)


def layout_ids(label_map: Tensor) -> Tensor | None:
    """Return the class ids BHW of a label map BKHW, or None if it has to be taken as it is.

    That is a label map which is not exactly one-hot or through which gradients pass, and any on a GPU, where
    convolutions over all pixels cost less than looking for what they have in common.
    """
    if label_map.requires_grad or label_map.device.type != "cpu":
        return None
    largest, ids = label_map.max(dim=1)
    hard = bool((largest == 1).all()) and bool((label_map.abs().sum(dim=1) == 1).all())
    return ids if hard else None


def class_symbols(ids: Tensor, num_classes: int) -> SymbolMap:
    """Return the map of the one-hot classes of ids BHW."""
    return SymbolMap(ids, torch.eye(num_classes, device=ids.device))


def cropped_symbols(layout: Tensor) -> SymbolMap | None:
    """Return the map of one-hot classes and of pixels that are marked by 1/K for all classes, or None if others occur.

    Args:
        layout: BKHW.
    """
    num_classes = layout.shape[1]
    marked = (layout == 1 / num_classes).all(dim=1)
    first = torch.zeros_like(layout)
    first[:, 0] = 1.0
    ids = None if layout.requires_grad else layout_ids(torch.where(marked[:, None], first, layout))
    if ids is None:
        return None
    classes = torch.eye(num_classes, device=ids.device)
    mark = classes.new_full((1, num_classes), 1 / num_classes)
    return SymbolMap(torch.where(marked, num_classes, ids), torch.cat([classes, mark]))


def image_class_symbols(ids: Tensor, codes: Tensor) -> SymbolMap:
    """Return the map of one-hot class and the code of image and class, in this order.

    Args:
        ids: int64 BHW class ids.
        codes: BKS.
    """
    batch, num_classes = codes.shape[:2]
    classes = torch.eye(num_classes, device=ids.device, dtype=codes.dtype).repeat(batch, 1)
    symbols = ids + num_classes * torch.arange(batch, device=ids.device)[:, None, None]
    return SymbolMap(symbols, torch.cat([classes, codes.flatten(0, 1)], dim=1))


def noise_symbols(ids: Tensor, num_classes: int, noise: Tensor) -> SymbolMap | None:
    """Return the map of noise and one-hot class, in this order, or None if the noise varies within a class.

    Args:
        ids: int64 BHW class ids.
        num_classes: K.
        noise: BZHW.

    Returns:
        Symbols with vectors of Z + K numbers, one per image and class.
    """
    batch, height, width = ids.shape
    symbols = ids + num_classes * torch.arange(batch, device=ids.device)[:, None, None]
    count = batch * num_classes
    if noise.stride(2) == noise.stride(3) == 0:
        vectors = noise[:, :, 0, 0].repeat_interleave(num_classes, dim=0)
    else:
        # Some pixel of each symbol stands for all; that they agree is checked.
        pixel = torch.zeros(count, dtype=torch.int64, device=ids.device)
        pixel[symbols.flatten()] = torch.arange(height * width, device=ids.device).repeat(batch)
        image = torch.arange(count, device=ids.device) // num_classes
        vectors = noise.flatten(2)[image, :, pixel]
        for one, symbol in zip(noise, symbols, strict=True):
            if not torch.equal(one, vectors.T.index_select(1, symbol.flatten()).view_as(one)):
                return None
    classes = torch.eye(num_classes, device=ids.device, dtype=vectors.dtype).repeat(batch, 1)
    return SymbolMap(symbols, torch.cat([vectors, classes], dim=1))


class Neighbourhoods(NamedTuple):
    """The distinct 3x3 neighbourhoods of a map of numbers.

    Attributes:
        index: int64 BHW, the neighbourhood of each pixel.
        members: int64 N9, the numbers in each neighbourhood, row by row; the count of numbers stands for outside.
    """

    index: Tensor
    members: Tensor


def distinct_neighbourhoods(ids: Tensor, count: int) -> Neighbourhoods:
    """Find the distinct 3x3 neighbourhoods.

    Args:
        ids: int64 BHW, 0 .. count - 1.
        count: How many numbers there are, less than 2^21.
    """
    padded = F.pad(ids, (1, 1, 1, 1), value=count)
    index, rows = _distinct_triples(padded[..., :-2], padded[..., 1:-1], padded[..., 2:], count + 1)
    index, columns = _distinct_triples(index[:, :-2], index[:, 1:-1], index[:, 2:], len(rows))
    return Neighbourhoods(index, rows[columns].flatten(1))


def _distinct_triples(first: Tensor, second: Tensor, third: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return which distinct triple stands at each place, and the triples N3."""
    assert count <= 2**21, "three numbers must fit into 63 bits"
    keys = (first * count + second) * count + third
    if count**3 <= DENSE_TABLE * keys.numel():
        present = torch.zeros(count**3, dtype=torch.bool, device=keys.device)
        present[keys.flatten()] = True
        index, distinct = (present.cumsum(0) - 1)[keys], present.nonzero().squeeze(1)
    else:
        distinct, index = torch.unique(keys, return_inverse=True)
    return index, torch.stack([distinct // count**2, distinct // count % count, distinct % count], dim=1)


class RowSums:
    """Sums of rows of a table, differentiable by the table."""

    def __init__(self, members: Tensor, rows: int) -> None:
        """Say what is summed.

        Args:
            members: int64 [N, T], the rows that each sum adds.
            rows: R, how many the table has.
        """
        self.members, self.rows = members, rows

    @cached_property
    def transposed(self) -> Tensor:
        """The matrix [R, N] that takes the gradients of the sums back to the rows."""
        flat = self.members.flatten()
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=self.rows)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        columns = order // self.members.shape[1]
        size = (self.rows, len(self.members))
        ones = torch.ones(len(flat), device=flat.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            return torch.sparse_csr_tensor(ends, columns, ones, size, check_invariants=False)

    def __call__(self, table: Tensor) -> Tensor:
        """Map a table [R, C] to sums [N, C]."""
        return _RowSums.apply(table, self)


class _RowSums(torch.autograd.Function):
    """Torch's own backward pass of `embedding_bag` and `index_select` is several times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, sums: RowSums) -> Tensor:
        ctx.sums, ctx.dtype = sums, table.dtype
        if sums.members.shape[1] == 1:
            return table.index_select(0, sums.members[:, 0])
        return F.embedding_bag(sums.members, table, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        if gradient.dtype in (torch.bfloat16, torch.float16):
            gradient = gradient.float()
        return torch.mm(ctx.sums.transposed.to(gradient.dtype), gradient).to(ctx.dtype), None


class Patches:
    """What all modulations at one size share: the condition and its distinct 3x3 and 5x5 surroundings.

    Attributes:
        symbols: The condition.
        is_dense: Whether nearly all surroundings differ: then nothing but the condition is kept.
        inner: Sums over the nine places of each 3x3 surrounding, of a table [symbol, place].
        outer: Sums over the nine places of each 5x5 surrounding, of a table [3x3 surrounding, place].
        index: int64 [P], the 5x5 surrounding of each pixel.
    """

    def __init__(self, symbols: SymbolMap) -> None:
        """Find them."""
        self.symbols = symbols
        count = len(symbols.vectors)
        inner = distinct_neighbourhoods(symbols.ids, count)
        distinct = len(inner.members)
        self.is_dense = distinct > DENSE_SHARE * symbols.ids.numel()
        if self.is_dense:
            return
        outer = distinct_neighbourhoods(inner.index, distinct)
        taps = torch.arange(9, device=symbols.ids.device)
        self.inner = RowSums(inner.members * 9 + taps, (count + 1) * 9)
        self.outer = RowSums(outer.members * 9 + taps, (distinct + 1) * 9)
        self.index = outer.index.flatten()
        self._pixels = RowSums(self.index[:, None], len(outer.members))

    @cached_property
    def condition(self) -> Tensor:
        """The condition map, BLHW."""
        return self.symbols.dense().contiguous(memory_format=torch.channels_last)

    def to_pixels(self, rows: Tensor) -> Tensor:
        """Put the values [N, C] of the 5x5 surroundings where these are: BCHW."""
        batch, height, width = self.symbols.ids.shape
        return self._pixels(rows).view(batch, height, width, -1).permute(0, 3, 1, 2)


class Conditions:
    """A condition map at all the sizes that a network asks for: as patches if it takes few vectors, else as it is."""

    def __init__(self, symbols: SymbolMap | None, dense: Callable[[tuple[int, int]], Tensor]) -> None:
        """Keep what conditions are made from.

        Args:
            symbols: At full size; None for a condition that differs at every pixel.
            dense: Returns the map itself, BLhw, of a height and width.
        """
        self.symbols, self.dense = symbols, dense
        self._known: dict[tuple[int, int], Patches] = {}

    def __call__(self, size: tuple[int, int]) -> Tensor | Patches:
        """Return the condition of a height and width."""
        if self.symbols is None:
            return self.dense(size)
        if size not in self._known:
            self._known[size] = Patches(self.symbols.resized(size))
        return self._known[size]


def per_symbol(weight: Tensor) -> Tensor:
    """Return the weight OL33 of a 3x3 convolution as [L, 9O]: what an input vector adds from each of nine places."""
    return weight.permute(1, 2, 3, 0).flatten(1)


def per_tap(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a vector adds at each of nine places through a 3x3 convolution: a product and an addition.

    All nine places of the first OUTPUTS_AT_ONCE outputs come first, then those of the next.

    Args:
        weight: OM33.
        bias: [O]; the place in the middle, which is always within the image, adds it.

    Returns:
        Weight [9O, M] and bias [9O].
    """
    weights = [part.permute(2, 3, 0, 1).reshape(-1, weight.shape[1]) for part in weight.split(OUTPUTS_AT_ONCE)]
    biases = [F.pad(part, (4 * len(part), 4 * len(part))) for part in bias.split(OUTPUTS_AT_ONCE)]
    return torch.cat(weights), torch.cat(biases)


def convolve_patches(
    patches: Patches, symbol_weight: Tensor, hidden_bias: Tensor, tap_weight: Tensor, tap_bias: Tensor
) -> Tensor:
    """Return two 3x3 convolutions of the condition, with a ReLU between, for each distinct 5x5 surrounding.

    Args:
        patches: The surroundings; not dense.
        symbol_weight: [L, 9M], the first convolution's, from `per_symbol`.
        hidden_bias: [M].
        tap_weight: [9O, M], the second convolution's, from `per_tap`.
        tap_bias: [9O], likewise.

    Returns:
        [N, O]; `patches.index` says which row is whose.
    """
    symbols = torch.mm(patches.symbols.vectors.to(symbol_weight.dtype), symbol_weight)
    table = F.pad(symbols, (0, 0, 0, 1)).view(-1, len(hidden_bias))  # outside, conditions are 0
    hidden = F.relu(patches.inner(table) + hidden_bias)
    hidden = F.pad(hidden, (0, 0, 0, 1))  # and so is the hidden layer
    sums = []
    for weight, bias in zip(tap_weight.split(9 * OUTPUTS_AT_ONCE), tap_bias.split(9 * OUTPUTS_AT_ONCE), strict=True):
        sums.append(patches.outer(_product(hidden, weight, bias).view(-1, len(bias) // 9)))
    return torch.cat(sums, dim=1) if len(sums) > 1 else sums[0]


def _product(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return rows [N, M] times the transposed weight [O, M], plus the bias [O], in the way that takes less time."""
    if TUNING.multiplies_by_mm and rows.dtype == torch.float32:
        return torch.addmm(bias, rows, weight.T)
    return image_rows(F.conv2d(rows[None, None].permute(0, 3, 1, 2), weight[:, :, None, None], bias))


def image_rows(x: Tensor) -> Tensor:
    """Return the pixels of BCHW as rows [P, C], a view if the channels are last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
