"""Convolutions of a label map once per distinct label patch, exactly, in place of once per pixel.

Without noise per pixel, the condition of SPADE's modulations takes few distinct vectors ("symbols"): one per class, or
per class and image. Scale and shift of a pixel follow from the 5x5 conditions around it through two 3x3 convolutions,
so that pixels with the same 5x5 surroundings share them, and real layouts have few distinct surroundings.

Shapes: B batch, L condition channels, H x W pixels, P = BHW pixels in a row, S symbols, M hidden channels, O outputs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn

from scenepalette.generators.kernels.dispatch import TUNING
from scenepalette.generators.nn.blocks import resize_condition

# Above this share of distinct 3x3 surroundings a convolution over all pixels is cheaper.
DENSE_SHARE = 0.8
MOST_STARTS = 0.5  # the share of pixels that differ from the one on their left above which most surroundings differ
MOST_NUMBERS = 2**21  # three of them fit into 63 bits
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

    def of_images(self, first: int, stop: int | None) -> SymbolMap:
        """Return the map of some images, with the vectors that they use."""
        if first == 0 and (stop is None or stop >= len(self.ids)):
            return self
        ids = self.ids[first:stop]
        used = torch.zeros(len(self.vectors), dtype=torch.bool, device=ids.device)
        used[ids.flatten()] = True
        return SymbolMap((used.cumsum(0) - 1)[ids], self.vectors[used])

    def with_codes(self, codes: Tensor) -> SymbolMap:
        """Return the map of each vector and, beside it, its sum of codes BLS of the image: L + S numbers."""
        count, batch = len(self.vectors), len(codes)
        styles = (self.vectors @ codes.to(self.vectors.dtype)).flatten(0, 1)
        ids = self.ids + count * torch.arange(batch, device=self.ids.device)[:, None, None]
        return SymbolMap(ids, torch.cat([self.vectors.repeat(batch, 1), styles], dim=1))

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


def find_symbols(condition: Tensor, everywhere: bool = False) -> SymbolMap | None:
    """Return a condition map as symbols, or None if it has to be taken as it is.

    That is a map of which most pixels differ from the one on their left or through which gradients pass, and any on a
    GPU, unless it is asked for: convolutions over all pixels are what a GPU is good at, and looking for what they have
    in common waits for it.

    Args:
        condition: BLHW.
        everywhere: Whether symbols are looked for on GPUs too.
    """
    device = condition.device
    if condition.requires_grad or not (everywhere or device.type == "cpu"):
        return None
    batch, channels, height, width = condition.shape
    starts = torch.ones(batch, height, width, dtype=torch.bool, device=device)  # of runs of equal pixels
    differs = condition[..., 1:] != condition[..., :-1]
    starts[..., 1:] = differs.view(torch.uint8).amax(dim=1) == 1  # ten times as fast as `any`
    if int(starts[..., 1:].sum()) > MOST_STARTS * starts.numel():
        return None
    rows = condition.permute(0, 2, 3, 1)[starts]
    # Equal rows have equal products with the same weights, and rows that differ hardly ever; the products are checked.
    weights = torch.rand(channels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products, of_row = torch.unique(rows.double() @ weights.to(device), return_inverse=True)
    chosen = torch.empty(len(products), dtype=torch.int64, device=device)
    chosen[of_row] = torch.arange(len(rows), device=device)
    vectors = rows[chosen]
    if len(vectors) >= MOST_NUMBERS or not torch.equal(rows, vectors[of_row]):
        return None
    return SymbolMap(of_row[starts.flatten().cumsum(0) - 1].view(starts.shape), vectors)


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
        count: How many numbers there are, less than MOST_NUMBERS.
    """
    padded = F.pad(ids, (1, 1, 1, 1), value=count)
    index, rows = _distinct_triples(padded[..., :-2], padded[..., 1:-1], padded[..., 2:], count + 1)
    index, columns = _distinct_triples(index[:, :-2], index[:, 1:-1], index[:, 2:], len(rows))
    return Neighbourhoods(index, rows[columns].flatten(1))


def _distinct_triples(first: Tensor, second: Tensor, third: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return which distinct triple stands at each place, and the triples N3."""
    assert count <= MOST_NUMBERS
    keys = (first * count + second) * count + third
    if count**3 <= DENSE_TABLE * keys.numel():
        present = torch.zeros(count**3, dtype=torch.bool, device=keys.device)
        present[keys.flatten()] = True
        index, distinct = (present.cumsum(0) - 1)[keys], present.nonzero().squeeze(1)
    else:
        # Neighbours are mostly equal: only where one differs from the one before it is there something to sort.
        flat = keys.flatten()
        starts = torch.ones(len(flat), dtype=torch.bool, device=keys.device)
        torch.ne(flat[1:], flat[:-1], out=starts[1:])
        distinct, of_run = torch.unique(flat[starts], return_inverse=True)
        index = of_run[starts.cumsum(0) - 1].view(keys.shape)
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
    def transposed(self) -> tuple[Tensor, Tensor]:
        """The sums that each row is added to, those of row 0 first, and where those of each row begin: [NT], [R + 1].

        Each row's come in ascending order.
        """
        flat = self.members.flatten()
        if flat.device.type == "cpu":
            # Rows change places with columns by counting, which takes a fifth of the time of sorting.
            ends = np.arange(0, len(flat) + 1, self.members.shape[1], dtype=np.int64)
            matrix = csr_array(
                (np.ones(len(flat), np.int8), flat.numpy(), ends), shape=(len(self.members), self.rows)
            ).tocsc()
            return torch.from_numpy(matrix.indices).long(), torch.from_numpy(matrix.indptr).long()
        counts = torch.bincount(flat, minlength=self.rows)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return torch.argsort(flat, stable=True) // self.members.shape[1], ends

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
        members, ends = ctx.sums.transposed
        gradient = gradients[0].contiguous()
        return F.embedding_bag(members, gradient, ends, mode="sum", include_last_offset=True).to(ctx.dtype), None


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


class ConditionCache:
    """Condition maps as patches at all the sizes that a network asks for, found once in each of its forward passes."""

    def __init__(self, everywhere: bool = False) -> None:
        """Start with nothing known; `everywhere` as of `find_symbols`."""
        self._everywhere = everywhere
        self._known: dict[tuple[object, ...], Any] | None = None

    def attach(self, network: nn.Module) -> None:
        """Start again with each forward pass of a network and forget at its end."""
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end, always_call=True)

    def _begin(self, *_: object) -> None:
        self._known = {}

    def _end(self, *_: object) -> None:
        self._known = None

    def patches(
        self,
        condition: Tensor,
        size: tuple[int, int],
        codes: Tensor | None = None,
        images: tuple[int, int | None] = (0, None),
    ) -> Patches | None:
        """Return the patches of a condition map, or None if it has to be taken as it is.

        Args:
            condition: BLhw.
            size: Height and width wanted.
            codes: BKS, as `resize_condition` takes them.
            images: The first image and where to stop, of those that are wanted.
        """
        known, key = self._entries(condition, codes)
        if key not in known:
            symbols = find_symbols(condition, self._everywhere)
            if symbols is not None and codes is not None:
                symbols = symbols.with_codes(codes)
            known[key] = (symbols, condition, codes)
        symbols = known[key][0]
        if symbols is None:
            return None
        if (*key, size, images) not in known:
            known[*key, size, images] = Patches(symbols.of_images(*images).resized(size))
        return known[*key, size, images]

    def resized(self, condition: Tensor, size: tuple[int, int], codes: Tensor | None = None) -> Tensor:
        """Return the map itself of a height and width; see `resize_condition`."""
        patches = self.patches(condition, size, codes)
        if patches is not None:
            return patches.condition
        known, key = self._entries(condition, codes)
        if (*key, size) not in known:
            known[*key, size] = resize_condition(condition, size, codes)
        return known[*key, size]

    def _entries(
        self, condition: Tensor, codes: Tensor | None
    ) -> tuple[dict[tuple[object, ...], Any], tuple[object, ...]]:
        """Return what is known and what the key of a condition begins with."""
        known = {} if self._known is None else self._known
        # Tensors that are kept have their identity to themselves.
        return known, (id(condition), None if condition.is_inference() else condition._version, id(codes))


def per_symbol(weight: Tensor) -> Tensor:
    """Return the weight OL33 of a 3x3 convolution as [L, 9O]: what an input vector adds from each of nine places."""
    return weight.permute(1, 2, 3, 0).flatten(1)


def per_tap(weight: Tensor) -> Tensor:
    """Return the weight OM33 of a 3x3 convolution as [9O, M]: what a vector adds at each of nine places.

    All nine places of the first OUTPUTS_AT_ONCE outputs come first, then those of the next.
    """
    parts = [part.permute(2, 3, 0, 1).reshape(-1, weight.shape[1]) for part in weight.split(OUTPUTS_AT_ONCE)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def per_tap_bias(bias: Tensor) -> Tensor:
    """Return the bias [O] of the products of `per_tap`, [9O]: the place in the middle adds it."""
    return torch.cat([F.pad(part, (4 * len(part), 4 * len(part))) for part in bias.split(OUTPUTS_AT_ONCE)])


def convolve_patches(
    patches: Patches, symbol_weight: Tensor, hidden_bias: Tensor, tap_weight: Tensor, tap_bias: Tensor | None
) -> Tensor:
    """Return two 3x3 convolutions of the condition, with a ReLU between, for each distinct 5x5 surrounding.

    Args:
        patches: The surroundings; not dense.
        symbol_weight: [L, 9M], the first convolution's, from `per_symbol`.
        hidden_bias: [M].
        tap_weight: [9O, M], the second convolution's, from `per_tap`.
        tap_bias: [9O], from `per_tap_bias`; None to leave the bias to whoever takes the sums.

    Returns:
        [N, O]; `patches.index` says which row is whose.
    """
    symbols = torch.mm(patches.symbols.vectors.to(symbol_weight.dtype), symbol_weight)
    table = F.pad(symbols, (0, 0, 0, 1)).view(-1, len(hidden_bias))  # outside, conditions are 0
    hidden = F.relu(patches.inner(table) + hidden_bias)
    hidden = F.pad(hidden, (0, 0, 0, 1))  # and so is the hidden layer
    weights = tap_weight.split(9 * OUTPUTS_AT_ONCE)
    biases = [None] * len(weights) if tap_bias is None else tap_bias.split(9 * OUTPUTS_AT_ONCE)
    sums = [
        patches.outer(_product(hidden, weight, bias).view(-1, len(weight) // 9))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    return torch.cat(sums, dim=1) if len(sums) > 1 else sums[0]


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return rows [N, M] times the transposed weight [O, M], plus the bias [O], in the way that takes less time."""
    if TUNING.multiplies_by_mm and rows.dtype == torch.float32:
        return torch.mm(rows, weight.T) if bias is None else torch.addmm(bias, rows, weight.T)
    return image_rows(F.conv2d(rows[None, None].permute(0, 3, 1, 2), weight[:, :, None, None], bias))


def image_rows(x: Tensor) -> Tensor:
    """Return the pixels of BCHW as rows [P, C], a view if the channels are last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
