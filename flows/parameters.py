"""Parameters that flows share, each declared once: its type, its default, and what Prefect's forms say of it.

A flow of a stage lists the sections of the configuration that its form shows; `signature_of` and `documentation_of`
make of them what Prefect reads from a function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, Optional

from pydantic import Field

from scenepalette.flows.forms import Changes, ChangesTo, OverridesForm
from scenepalette.flows.platforms.destinations import PUSH_PATTERN
from scenepalette.flows.shards import RunnerName, Workers
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import OUT_PATTERN

# Checked when a run is submitted: the message of a refusal shows the pattern, and with it the names there are.
Recipe = Annotated[str, Field(pattern=rf"^({'|'.join(RECIPES)}|.+\.ya?ml)$")]
# Neither blank nor with braces that say nothing: a variable that is not set must not stand for runs/RECIPE.
Out = Annotated[str, Field(pattern=OUT_PATTERN)]
Given = Annotated[str, Field(pattern=r"\S")]
PushTo = Annotated[str, Field(pattern=PUSH_PATTERN)]
Overrides = Annotated[list[str] | dict[str, Any] | None, OverridesForm()]

Minutes = Annotated[float, Field(ge=0, le=7 * 24 * 60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
WAIT_MINUTES = 12 * 60.0


@dataclass(frozen=True)
class FlowParameter:
    """A parameter of flows.

    Attributes:
        type: Its type, from which Prefect makes a form and checks what is submitted.
        text: What the form says of it.
        default: What it is if it is left out.
    """

    type: Any
    text: str
    default: Any = None


SECTIONS = {
    "data": "Which data set; what is left out stays as the recipe has it, here and below.",
    "palettes": "The palette sampler.",
    "layouts": "The layout generators and their training.",
    "images": "The image generator and its training.",
    "finetune": "End-to-end fine-tuning.",
    "generate": "Mass production of pairs.",
    "segmenters": "The segmenters that are compared.",
    "teachers": "Segmenters that judge generated pairs.",
    "report": "The comparison of arms.",
    "compare": "The comparison of systems.",
    "curve": "What is trained on less of the real pairs, or on more generated ones.",
    "loop": "The loop that asks for lacking classes.",
    "compute": "Device, precision and threads.",
}
REQUEST = {
    "recipe": FlowParameter(Recipe, "Name of a recipe, or a YAML file.", "demo"),
    "out": FlowParameter(
        Optional[Out],  # noqa: UP045 (built at run time)
        "Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.",
    ),
    "overrides": FlowParameter(Overrides, "Further changes by key, as EXAMPLE, or a list of section.key=value."),
    "seed": FlowParameter(Optional[Seed], "All randomness follows from it."),  # noqa: UP045
}
POOL = {
    "task_runner": FlowParameter(RunnerName, "Where shards are made.", "threads"),
    "shard_workers": FlowParameter(
        Workers,
        "Shards that are made at once. One already uses all cores; more help where loading or encoding waits.",
        1,
    ),
    "cluster_address": FlowParameter(
        Optional[Given],  # noqa: UP045
        "Of a Dask scheduler or Ray cluster; without it one is started on this machine.",
    ),
}
LENDER = {"models_from": FlowParameter(Optional[Given], "Folder of another run whose trained models are used.")}  # noqa: UP045
PUSH = {
    "push_to": FlowParameter(
        Optional[PushTo],  # noqa: UP045
        "URL, or block as remote-file-system/NAME, that the results are copied to at the end; {date} and {time} in it "
        "are those of the scheduled start.",
    ),
    "i_may": FlowParameter(bool, "Whether you may pass on what the terms of the data do not allow everyone to.", False),
}
WAIT = {
    "wait_minutes": FlowParameter(
        Minutes, "How long to wait while another run works in the same run directory.", WAIT_MINUTES
    )
}


def parameters_of(
    sections: Sequence[str], *, makes_pairs: bool, borrows: bool, pushes: bool
) -> dict[str, FlowParameter]:
    """Return the parameters of a flow by name.

    Args:
        sections: Sections of the configuration that its form shows, beside the data set and the device.
        makes_pairs: Whether shards are made by a pool of workers.
        borrows: Whether trained models of another run can be used.
        pushes: Whether results can be pushed at the end.
    """
    forms = {
        name: FlowParameter(
            Annotated[Changes | None, ChangesTo(RunConfig.model_fields[name].annotation)],  # type: ignore[arg-type]
            SECTIONS[name],
        )
        for name in ("data", *sections, "compute")
    }
    optional = [(POOL, makes_pairs), (LENDER, borrows), (PUSH, pushes)]
    chosen = {name: each for group, wanted in optional if wanted for name, each in group.items()}
    return {**REQUEST, **forms, **chosen, **WAIT}


def signature_of(parameters: dict[str, FlowParameter]) -> Signature:
    """Return the signature of a function with these parameters, which returns a folder."""
    return Signature(
        [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=each.default, annotation=each.type)
            for name, each in parameters.items()
        ],
        return_annotation=str,
    )


def documentation_of(summary: str, example: str, parameters: dict[str, FlowParameter]) -> str:
    """Return a docstring in Google's form; the example is of changes that `overrides` could make."""
    lines = [f"    {name}: {each.text.replace('EXAMPLE', example)}" for name, each in parameters.items()]
    return "\n".join([summary, "", "Args:", *lines])
