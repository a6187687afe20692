"""The section that says where and how numbers are computed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from pydantic import Field, field_validator

from scenepalette.pipeline.sections import Section
from scenepalette.training.device.speed import CompileMode
from scenepalette.training.tracking.base import TrackerName


class ComputeConfig(Section):
    """Where and how numbers are computed; not part of what identifies a result."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device.")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the device computes it in hardware, else 32-true."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of torch; none for one on each processor that is free at the start.",
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Trainings of a run done at once, each in a process of its own with its share of the threads; none "
        "for as many as a CPU has threads and memory for, at most 4, or one more of one thread each, and for one on a "
        "GPU.",
    )
    compile: CompileMode = Field(
        default="off",
        description="Whether segmenters, and on a GPU image generators and their discriminators, are compiled: by "
        "torch.compile (default), or with CUDA graphs as well (graphs). Results are equal up to rounding.",
    )
    label_patches: bool = Field(
        default=False,
        description="Whether a GPU computes modulations once per distinct label patch, as a CPU does, in place of at "
        "every pixel.",
    )
    fill_memory: bool = Field(
        default=False,
        description="Whether a GPU makes as many pairs at once as its memory holds, in place of generate.batch_size.",
    )
    plain: bool = Field(
        default=False,
        description="Whether a GPU works as a CPU does: data sent at every step, losses looked at at every step, "
        "pairs encoded one by one.",
    )
    tensorboard: bool = Field(
        default=False,
        description="Whether trainings also write their numbers for TensorBoard, which must be installed.",
    )

    tracking: tuple[TrackerName, ...] = Field(
        default=(),
        description="Experiment trackers that are told parameters, curves, sample sheets and the report; their own "
        "environment variables name server and project.",
    )

    @property
    def writes_tensorboard(self) -> bool:
        """Whether trainings also write their numbers for TensorBoard."""
        return self.tensorboard or "tensorboard" in self.tracking

    @field_validator("tracking")
    @classmethod
    def _check_trackers(cls, names: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        missing = [name for name in dict.fromkeys(names) if find_spec(name) is None]
        if missing:
            nouns = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            raise ValueError(f"{nouns} not installed; pip install 'scenepalette[{','.join(missing)}]', or leave it out")
        return names

    @field_validator("tensorboard")
    @classmethod
    def _check_installed(cls, wanted: bool) -> bool:
        if wanted and find_spec("tensorboard") is None:
            raise ValueError("TensorBoard is not installed; pip install 'scenepalette[tensorboard]', or leave it out")
        return wanted
