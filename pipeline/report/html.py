"""The report as one HTML file that needs nothing beside it and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.markdown import show_value
from scenepalette.pipeline.report.results import REAL_ARM

TEMPLATE = "report.html.jinja"
VERDICT_STYLES = {"reference": "reference", "gains": "gains", "loses": "loses"}


def render_html(document: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Fill the page: figures become data URIs, styles are inline, and a policy forbids every other request.

    Args:
        document: The content of report.json.
        pictures: Figure file name (without its folder) -> PNG bytes.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=wording.percent,
        points=wording.points,
        interval=wording.interval,
        number=wording.number,
        duration=wording.duration,
        direction=wording.direction,
        show_value=show_value,
        verdict_style=lambda verdict: VERDICT_STYLES.get(verdict, "same"),
    )
    template = environment.from_string(
        files("scenepalette.pipeline.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    sections: dict[str, list[dict[str, str]]] = {}
    for figure in document["figures"]:
        data = base64.b64encode(pictures[figure["file"].rsplit("/", 1)[-1]]).decode("ascii")
        sections.setdefault(figure["section"], []).append({**figure, "source": f"data:image/png;base64,{data}"})
    return template.render(
        document=document,
        dataset=document["dataset"],
        arms=document["arms"],
        real_name=REAL_ARM,
        real=wording.arm_named(document, REAL_ARM),
        kinds=list(dict.fromkeys([*document["gan_train"], *document["gan_test"]])),
        headline=wording.headline(document),
        findings=wording.findings(document),
        cautions=wording.cautions(document),
        measures=wording.measures(document),
        method=wording.method(document),
        training=wording.training(document),
        scale=_scale(document),
        both=wording.has_excluded_classes(document),
        sections=sections,
    )


def _scale(document: Mapping[str, Any]) -> float:
    """Half width, as a fraction of mIoU, of the axis on which the table draws differences from real.

    Arms without real data are often far off and would squeeze the others; the table draws no axis for an arm beyond it.
    """
    arms = wording.augmentation_arms(document) or document["arms"]
    ends = [abs(end) for arm in arms for end in arm["delta_vs_real"]["ci95"] if end is not None]
    return max([0.01, *ends])
