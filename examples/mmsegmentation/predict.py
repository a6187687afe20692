"""segmenters.command.predict for MMSegmentation 1.x: predict.py {images} {out} {model}."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmseg.apis import inference_model, init_model
from PIL import Image


def main() -> None:
    """Write a label map of class ids for each image, of its size and name."""
    images, out, model = map(Path, sys.argv[1:])
    checkpoint = (model / "last_checkpoint").read_text(encoding="utf-8").strip()
    # By its name alone: the run directory may have been moved since.
    weights = model / Path(checkpoint).name
    # MMEngine's checkpoints hold more than tensors, which torch 2.6 and later otherwise refuse.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    network = init_model(str(model / "trained_config.py"), str(weights), device=device)
    for file in sorted(images.iterdir()):
        label = inference_model(network, str(file)).pred_sem_seg.data.squeeze(0)
        Image.fromarray(label.cpu().numpy().astype(np.uint8)).save(out / file.name)


if __name__ == "__main__":
    main()
