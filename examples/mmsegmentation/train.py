"""segmenters.command.train for MMSegmentation 1.x: train.py CONFIG {pairs} {model} {steps} {seed}."""

import csv
import os
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner


def configured(config: str, pairs: Path, model: Path, steps: int, seed: int) -> Config:
    """Return a configuration with what depends on the data and the arm."""
    with (pairs / "classes.csv").open(newline="", encoding="utf-8") as file:
        classes = list(csv.DictReader(file))
    cfg = Config.fromfile(config)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(pairs)
    dataset.metainfo = {
        "classes": [entry["name"] for entry in classes],
        "palette": [[int(entry[channel]) for channel in ("red", "green", "blue")] for entry in classes],
    }
    for head in ("decode_head", "auxiliary_head"):
        if head in cfg.model:
            cfg.model[head].num_classes = len(classes)
    cfg.train_cfg.max_iters = steps
    cfg.work_dir = str(model)
    cfg.randomness = {"seed": seed}
    return cfg


def main() -> None:
    """Train as the arguments say; the configuration that was used stays beside the checkpoints, for predict.py."""
    config, pairs, model, steps, seed = sys.argv[1:]
    cfg = configured(config, Path(pairs), Path(model), int(steps), int(seed))
    cfg.dump(str(Path(model, "trained_config.py")))
    # Its checkpoints hold more than tensors, which torch 2.6 and later otherwise refuse: resuming reads them.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    Runner.from_cfg(cfg).train()


if __name__ == "__main__":
    main()
