"""The folders that MMSegmentation's `BaseSegDataset` reads, with its settings as a Python file.

The layout follows MMSegmentation 1.x, "Customize datasets": `img_dir/train` and `ann_dir/train` hold files of equal
names but for their suffixes, of which a data set has one each; label maps hold class ids, 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards

SETTINGS = "mmseg_dataset.py"


def write_mmseg(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> None:
    """Write OUT/img_dir/train/ID.(jpg|png), OUT/ann_dir/train/ID.png and OUT/mmseg_dataset.py.

    Raises:
        DataError: Some images are JPEG and some PNG.
    """
    suffix = ""
    for row in rows:
        own = Path(row.image_name).suffix
        suffix = suffix or own
        if own != suffix:
            raise DataError(
                f"{shards.folder} holds images of two forms, {suffix} and {own} ({row.row.id!r}); MMSegmentation takes "
                "one. Export it with --to images, whose files can be converted."
            )
        write_atomically(out / "img_dir/train" / row.image_name, row.image, durable=False)
        write_atomically(out / "ann_dir/train" / f"{row.key}.png", row.label, durable=False)
    write_atomically(out / SETTINGS, _settings(shards, suffix))


def _settings(shards: VerifiedShards, suffix: str) -> str:
    names = "".join(f"    {name!r},\n" for name in shards.table.names)
    colors = "".join(f"    {list(entry.color)},\n" for entry in shards.table.classes)
    return f'''# What BaseSegDataset of MMSegmentation 1.x needs to know of this folder. MMEngine puts in the path:
#     train_dataset = Config.fromfile("FOLDER/{SETTINGS}").train_dataset
# Where these lines are copied into a config, write the path. Pairs for validation should be real ones.
data_root = "{{{{ fileDirname }}}}"
classes = (
{names})
palette = [
{colors}]
train_dataset = dict(
    type="BaseSegDataset",
    data_root=data_root,
    data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
    img_suffix="{suffix}",
    seg_map_suffix=".png",
    metainfo=dict(classes=classes, palette=palette),
    ignore_index={IGNORE_ID},
    reduce_zero_label=False,
)
'''
