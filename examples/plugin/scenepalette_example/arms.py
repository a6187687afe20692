"""An arm of the comparison of segmenters."""

from scenepalette.training.arms import Arm

SYN_STANDARD = Arm(
    "generated pairs alone, standard augmentation", real="none", synthetic="full", augmentation="standard"
)
