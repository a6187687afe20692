"""The doctor names classes that no segmenter of the chosen stride can find."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.sample import Sample
from scenepalette.pipeline.config import RunConfig, load_config, make_config, merge
from scenepalette.pipeline.doctor.oracle import MOST_LABELS, UNREACHABLE, check_oracle

ROAD, SKY, POLE = (CAMVID.names.index(name) for name in ("road", "sky", "pole"))


class Poles:
    """Sky above road, with a pole of two of 64 columns."""

    split, table, ids, read = "val", CAMVID, tuple(f"p{index}" for index in range(300)), set[int]()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        self.read.add(index)
        label = np.full((32, 64), SKY, np.uint8)
        label[16:], label[:, 10:12] = ROAD, POLE
        return Sample(self.ids[index], np.zeros((32, 64, 3), np.uint8), label)


def config_of(architecture: str) -> RunConfig:
    base = load_config("camvid-cpu", ["data.root=."]).model_dump(mode="json")
    lists = {"fade_steps": [0, 1, 1, 1], "stable_steps": [1] * 4, "batch_sizes": [4] * 4}
    changes = {
        "data": {"size": [32, 64]},
        "layouts": {"full": lists, "partial": lists},
        "segmenters": {"architecture": architecture},
    }
    return make_config(merge(base, changes))


@pytest.mark.parametrize(("architecture", "stride"), [("deeplabv3", 8), ("fpn", 4), ("unet", 1)])
def test_a_thin_class_is_named_where_the_stride_loses_it(architecture: str, stride: int) -> None:
    poles = Poles()
    poles.read = set()
    check = check_oracle(config_of(architecture), poles)  # type: ignore[arg-type]
    assert check is not None and check.name == "best possible IoU"
    assert f"have stride {stride}" in check.summary and "at 32 x 64" in check.summary
    assert len(poles.read) == MOST_LABELS == 200
    if stride == 1:
        assert (check.status, check.details) == ("ok", ()) and "mIoU 100.0" in check.summary
    else:
        assert check.status == "warning" and check.details == (f"pole: IoU {0 if stride == 8 else 3} at most",)
        assert "1 of 11 classes stays below IoU 30" in check.summary and UNREACHABLE == 0.3
        # Whoever has a stride of 4 is not told to take it.
        assert "unet" in check.remedy and ("fpn" in check.remedy) == (stride > 4)
