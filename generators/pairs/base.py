"""Mass production of layout-image pairs: what all kinds share. A row is a function of (seed, index)."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.randomness import epoch_batch, numpy_generator, torch_generator
from scenepalette.data.arrays import Pairs, images_from_uint8, images_to_uint8
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import one_hot
from scenepalette.data.shards.kinds import KindCard
from scenepalette.data.shards.schema import Row, palette_of_label, row_id
from scenepalette.data.unlabelled import UnlabelledImages
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.layouts.crops import CropMode, EditBox
from scenepalette.generators.layouts.hardening import Hardening, harden
from scenepalette.generators.layouts.inputs import palettes_of
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork
from scenepalette.generators.layouts.settings import Edits
from scenepalette.generators.pairs.batches import BatchSize
from scenepalette.generators.pairs.class_budget import ClassBudget, palette_holding
from scenepalette.generators.pairs.composite import RealPart, composite, usual_feather
from scenepalette.generators.pairs.placement import Placement, draw_objects, lacking_objects
from scenepalette.generators.pairs.segment_bank import SegmentBank, build_bank, chosen_classes, left_out
from scenepalette.generators.palettes import PaletteControls, PaletteSampler
from scenepalette.training.arms import Arm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Labeller = Callable[[Tensor], Tensor]
Composite = Literal["none", "box"]


class Inserted(NamedTuple):
    """The objects that were put into a layout.

    Attributes:
        classes: Names of their classes.
        source_ids: Id of the sample whose layout and image it is, if these are real, then of each object's segment.
    """

    classes: tuple[str, ...]
    source_ids: tuple[str, ...]


class Layouts(NamedTuple):
    """The layouts of B rows of H x W pixels and K classes.

    Attributes:
        labels: int64 [B, H, W], class ids as they are stored; 255 where a pixel has no label.
        painted: int64 [B, H, W], class ids that images are made for; every pixel has one.
        targets: float [B, K], the class shares that were asked for.
        sources: Real sample, or unlabelled image, behind each row; None where there is none.
        boxes: Part of each row that was made again, or None.
        composites: What each row keeps of a real image; None where whole images are painted.
        inserted: Objects that were put into each row; None where nothing is inserted.
    """

    labels: Tensor
    painted: Tensor
    targets: np.ndarray
    sources: Sequence[str | None]
    boxes: Sequence[EditBox | None]
    composites: Sequence[RealPart] | None = None
    inserted: Sequence[Inserted] | None = None


class PairKind(ABC):
    """A kind of pairs: where its layouts come from, which arms train on it, and what is said of it.

    A new kind is a subclass in a file of its own and a line in `generators/pairs/registry.py`.
    """

    name: ClassVar[str]
    """Name in the configuration, run directories and shards: lower case."""
    card: ClassVar[KindCard]
    """What data set cards say of it."""
    caption: ClassVar[str]
    """What a report says below a figure of it."""
    arms: ClassVar[Mapping[str, Arm]] = {}
    """Arms that train on it, by name."""
    by_default: ClassVar[bool] = False
    """Whether it is made unless a configuration says otherwise."""
    layout_section: ClassVar[Literal["full", "partial"] | None] = None
    """The section of the configuration whose layout generator it needs; None if layouts are real or predicted."""
    predicts: ClassVar[bool] = False
    """Whether an image system's discriminator predicts its layouts from images without labels."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Keys of the section `generate` that it alone reads, where it keeps real pixels."""
    edits_layouts: ClassVar[bool] = False
    """Whether its layout generator edits real layouts."""
    from_scratch: ClassVar[bool] = False
    """Whether nothing in it is real: what the report measures the generators by."""
    takes_budget: ClassVar[bool] = False
    """Whether rows can be asked for a class, see `PairMaker.asked_class`."""
    costs_like: ClassVar[str | None] = None
    """A kind whose pairs take as long, where its own cannot be timed before a training."""

    def keeps_real_pixels(self, composite: Composite) -> bool:
        """Tell whether its images are real ones of which a part is painted, under a choice of `generate.composite`."""
        return False

    @property
    def arm_alone(self) -> str | None:
        """Name of the arm that trains on it alone (GAN-train), if there is one."""
        return next((name for name, arm in self.arms.items() if arm.real == "none"), None)

    @abstractmethod
    def layouts(self, maker: PairMaker, indices: list[int], randoms: list[np.random.Generator]) -> Layouts:
        """Return the layouts of B rows, each a function of the maker's seed and the row's index.

        Args:
            maker: Has the models and the data.
            indices: B indices of rows.
            randoms: A source of randomness for each of them.
        """


@dataclass(frozen=True)
class PairMaker:
    """Makes the rows of one kind.

    Attributes:
        kind: The kind.
        seed: The run's seed.
        train: Real training pairs; their class table is that of the rows.
        filled_labels: uint8 [N, H, W], their labels with ignored pixels filled.
        sampler: Where the palettes of full layouts, and of layouts that are added to, come from.
        image_generator: Layout to image, in eval mode on the fabric's device.
        image_model: Its content hash.
        layout_generator: The generator of full or partial layouts; None for semi and pseudo.
        layout_model: Its content hash, for pseudo that of the network that labels; None for semi.
        fabric: Device and precision.
        noise_scheme: How the images' noise is drawn; None for the image system's usual way.
        controls: Constraints on the sampled palettes.
        crop_mode: Where partial edits happen, if they replace.
        edits: What the partial generator was trained to do: "replace" a crop, or "add" towards a sampled palette.
        composite: Whether partial rows keep the real pixels outside the edited box.
        feather: Pixels over which painted parts fade into real images; None for a sixteenth of the shorter side.
        insert_classes: Names of the classes whose objects are inserted; all rare ones if none is named.
        insert_objects: Largest number of objects that are put into one image.
        hardening: How class ids follow from generated soft layouts: "argmax", "exact" under the palettes asked for, or
            "objects" of the bank beside what "argmax" gives.
        unlabelled: Images whose layouts are predicted; for pseudo only.
        labeller: Predicts class ids BHW of images B3HW in [-1, 1] on the fabric's device; for pseudo only.
        budget: Which rows are asked for which class, for kinds that take a budget; None to ask for nothing.
        collection: Eight hex digits that ids of rows hold, so that rows of other sets have other ids.
        fills_memory: Whether a GPU makes as many rows at once as its memory holds, whatever is asked for.
    """

    kind: PairKind
    seed: int
    train: Pairs
    filled_labels: np.ndarray
    sampler: PaletteSampler
    image_generator: ImageGenerator
    image_model: str
    layout_generator: LayoutNetwork | None
    layout_model: str | None
    fabric: Fabric
    noise_scheme: NoiseScheme | None = None
    controls: PaletteControls = field(default_factory=PaletteControls)
    crop_mode: CropMode = "band"
    edits: Edits = "replace"
    composite: Composite = "none"
    feather: int | None = None
    insert_classes: tuple[str, ...] = ()
    insert_objects: int = 3
    hardening: Hardening = "argmax"
    unlabelled: UnlabelledImages | None = None
    labeller: Labeller | None = None
    budget: ClassBudget | None = None
    collection: str = "00000000"
    fills_memory: bool = False

    def rows(self, first: int, count: int, batch_size: int) -> Generator[Row, None, None]:
        """Yield rows `first` to `first + count - 1`.

        Args:
            first: Index of the first row.
            count: Number of rows.
            batch_size: Rows generated at once; half as many where the device lacks memory for them.

        Raises:
            ScenepaletteError: The device lacks memory for one.
        """
        start, end = first, first + count
        while start < end:
            indices = list(range(start, min(start + self.at_once.of(batch_size), end)))
            try:
                with torch.inference_mode(), self.fabric.autocast():
                    rows = self._batch(indices)
            except torch.OutOfMemoryError:
                rows = None
            if rows is None:  # outside: while an error is handled, it holds on to the memory of what failed
                self.at_once.lacked_memory(len(indices))
                continue
            self.at_once.fitted()
            yield from rows  # outside: whoever takes them must not find gradients switched off
            start += len(indices)

    def _batch(self, indices: list[int]) -> list[Row]:
        randoms = [numpy_generator(self.seed, "generate", self.kind.name, index) for index in indices]
        layouts = self.kind.layouts(self, indices, randoms)
        images = images_to_uint8(self._images(layouts, indices))
        if layouts.composites is not None:
            feather = self.feather or usual_feather(self.train.size)
            pairs = zip(layouts.composites, images, strict=True)
            images = np.stack([composite(real, painted, feather) for real, painted in pairs])
        inserted = layouts.inserted or [None] * len(indices)
        labels = layouts.labels.numpy().astype(np.uint8)
        return [
            Row(
                id=row_id(self.kind.name, self.collection, index),
                image=images[i],
                label=labels[i],
                kind=self.kind.name,
                palette_target=layouts.targets[i],
                palette_achieved=palette_of_label(labels[i], self.num_classes),
                source_id=layouts.sources[i],
                edit_box=layouts.boxes[i],
                seed=self.seed,
                index=index,
                layout_model=self.layout_model,
                image_model=self.image_model,
                inserted_classes=made.classes if (made := inserted[i]) else None,
                source_ids=made.source_ids if made else None,
            )
            for i, index in enumerate(indices)
        ]

    @cached_property
    def at_once(self) -> BatchSize:
        """How many rows the device makes at once."""
        return BatchSize(self.fabric.device, self.fills_memory)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.train.table.num_classes

    @cached_property
    def bank(self) -> SegmentBank:
        """Segments of the classes to insert, collected when first asked for; a warning names rare ones without any."""
        needed = self.hardening != "objects"  # to whose layouts nothing is added if there is nothing
        wanted = chosen_classes(self.train, self.insert_classes, needed=needed)
        bank = build_bank(self.train, wanted)
        if lacking := left_out(self.train, wanted, bank):
            print(f"Warning: {lacking}.", file=sys.stderr, flush=True)
        return bank

    def choose_sources(self, indices: list[int], count: int) -> list[int]:
        """Return which of `count` samples each row is made from: all equally often, each pass in another order.

        Neighbouring files are often frames of one video; few rows shall not come from the first of them alone.
        """
        return [int(epoch_batch(count, 1, index, self.seed, f"generate-{self.kind.name}")[0]) for index in indices]

    def real_layouts(self, indices: list[int]) -> Layouts:
        """Return layouts of the training split as they are; ignored pixels are filled in what is painted."""
        chosen = self.choose_sources(indices, len(self.train))
        labels = self.train.labels[chosen]
        return Layouts(
            labels=torch.from_numpy(labels.astype(np.int64)),
            painted=torch.from_numpy(self.filled_labels[chosen].astype(np.int64)),
            targets=np.stack([palette_of_label(label, self.num_classes) for label in labels]),
            sources=[self.train.ids[position] for position in chosen],
            boxes=[None] * len(indices),
        )

    def asked_class(self, index: int) -> int | None:
        """Return the class that a row is asked for, or None if it may hold anything."""
        return None if self.budget is None else self.budget.class_of(index)

    @cached_property
    def seen_palettes(self) -> np.ndarray:
        """Class shares of the training images, float [N, K]."""
        return palettes_of(self.train.labels, self.num_classes).numpy()

    def sample_palettes(self, indices: list[int], randoms: list[np.random.Generator]) -> np.ndarray:
        """Return a palette for each row, [B, K]; one that holds the class which the row is asked for, if any."""
        palettes = []
        for index, random in zip(indices, randoms, strict=True):
            asked = self.asked_class(index)
            if asked is None:
                palettes.append(self.sampler.sample(random, 1, self.controls)[0])
            else:
                palettes.append(palette_holding(asked, self.sampler, random, self.seen_palettes, self.controls))
        return np.stack(palettes)

    def generate_layouts(
        self,
        indices: list[int],
        randoms: list[np.random.Generator],
        *condition: Tensor,
        palettes: Tensor,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Return label maps from the layout generator, each from its own sources of noise and drawn classes.

        Hardening by objects leaves them as "argmax" does; see `put_lacking_objects`.

        Args:
            indices: B indices of rows.
            randoms: A source of randomness for each of them.
            condition: What the generator takes beside its noise, on the device.
            palettes: BK, the shares that exact hardening keeps to.
            kept: BHW class ids that it leaves as they are, IGNORE_ID where it chooses; None to choose everywhere.
        """
        assert self.layout_generator is not None
        features = self.layout_generator.noise_features
        vectors = np.stack([random.standard_normal(features, np.float32) for random in randoms])
        noise = torch.from_numpy(vectors).to(self.fabric.device)
        generators = [torch_generator(self.seed, "generate", self.kind.name, "classes", index) for index in indices]
        batch = self.layout_generator(noise, *condition, generators=generators)
        # As bytes, which they fit into: an eighth of what a GPU would have to send.
        return harden(batch, self.hardening, palettes, kept).to(torch.uint8).cpu().long()

    def put_lacking_objects(
        self, labels: Tensor, palettes: np.ndarray, randoms: list[np.random.Generator]
    ) -> list[Inserted]:
        """Put objects of the bank into layouts, in place, where they hold less of its classes than was asked for.

        Args:
            labels: int64 [B, H, W] on the CPU, class ids.
            palettes: float [B, K], the shares that were asked for.
            randoms: A source of randomness for each layout.
        """
        inserted = []
        for label, palette, random in zip(labels.numpy(), palettes, randoms, strict=True):
            placements = lacking_objects(label, palette, self.bank, random)
            draw_objects(label, placements)
            inserted.append(self.inserted(placements))
        return inserted

    def inserted(self, placements: Sequence[Placement], *source: str) -> Inserted:
        """Return what a row says of its objects; `source` is the id of the sample that they are put into, if any."""
        names = self.train.table.names
        return Inserted(
            tuple(names[each.class_id] for each in placements), (*source, *(each.segment.id for each in placements))
        )

    def _images(self, layouts: Layouts, indices: list[int]) -> Tensor:
        """Return the images of layouts, B3HW on the device."""
        device = self.fabric.device
        layout = to_device(layouts.painted.to(torch.uint8), device).long()
        generators = [torch_generator(self.seed, "generate", self.kind.name, "noise", index) for index in indices]
        noise = self.image_generator.sample_noise(self.noise_scheme, layout, generators)
        condition = one_hot(layout, self.num_classes)
        if layouts.composites is not None:  # what is painted should look like the real image around it
            real = images_from_uint8(np.stack([part.image for part in layouts.composites]))
            unchanged = torch.from_numpy(np.stack([part.unchanged for part in layouts.composites]))
            shown = condition * to_device(unchanged, device)[:, None]
            noise = self.image_generator.noise_of_image(noise, to_device(real, device), shown)
        return self.image_generator(condition, noise)
