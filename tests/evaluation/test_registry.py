from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.evidence import NEEDS, Draws, Evidence
from scenepalette.evaluation.generated import measure
from scenepalette.evaluation.registry import METRICS, Metric, columns_of_comparison, rows_of_report
from scenepalette.segmenters.model import build_network

STRANGER = """
import numpy as np
from scenepalette.evaluation.registry import Metric

def brightness(generated):
    return float(generated.batch(range(len(generated)))[0].mean())

def spread(draws, table):
    spread = draws.images.std()
    return np.array([spread, float("nan"), float("nan") if spread < 60 else 1.0])

BRIGHTNESS = Metric("brightness", "mean of all pixels", ("generated",), brightness, better="higher", unit="level")
PAGES = frozenset({"comparison"})
SPREAD = Metric("spread", "how far images of one layout differ", ("draws", "table"), spread, shown=PAGES)
BROKEN = Metric("broken", "nothing", ("table",), lambda table: 1 / 0)
TEXT = Metric("text", "nothing", ("table",), lambda table: "high")
NAN = Metric("nan", "nothing", ("table",), lambda table: float("nan"), undefined="it never has a value")
MIXED = Metric("mixed", "nothing", ("draws",), lambda draws: 1.0 if draws.images.max() > 100 else np.zeros(3))
LETTERS = Metric("letters", "nothing", ("draws",), lambda draws: np.array(["a", "b", "c"]))
UNASKED = Metric("unasked", "needs what is not there", ("discriminator",), lambda confusion: 1.0)
"""


@pytest.fixture
def evidence(make_pairs: Callable[..., Pairs], fabric: Fabric) -> Evidence:
    """Two layouts with images of which those of the second differ twice as much."""
    torch.manual_seed(0)
    real, generated = make_pairs(count=6), make_pairs(count=6, seed=1)
    images = np.zeros((2, 32, 48, 3), dtype=np.uint8)
    images[1] = 100

    def draws() -> Any:
        for factor in (1, 2):
            yield Draws(images * factor, real.labels[0])

    segmenter = build_network("deeplabv3", 3, decoder_channels=8)
    absent = Path("no-such-weights.pth")
    return Evidence(
        real,
        generated,
        segmenter,
        batch_size=4,
        fabric=fabric,
        draws=draws,
        inception_weights=absent,
        alexnet_weights=absent,
    )


def test_every_metric_is_declared_whole() -> None:
    assert len(set(METRICS)) == len(METRICS) > 15
    for name in METRICS:
        metric = METRICS.get(name)
        assert metric.needs and set(metric.needs) <= set(NEEDS)
        assert metric.meaning and not metric.meaning.endswith(".")
    shown = {"palette_shortfall", "fsd", "fid", "segmenter_frechet", "memorisation_ratio", "near_copies"}
    shown.add("mean_absolute_difference")
    assert {row["key"] for row in rows_of_report()} == shown
    assert [column["key"] for column in columns_of_comparison()][:3] == ["palette_kl", "fsd", "fid"]
    printed = [column["key"] for column in columns_of_comparison("terminal")]
    assert printed == ["palette_kl", "fsd", "segmenter_frechet", "gan_test_miou", "gan_train_miou", "ms_ssim"]


def test_a_metric_from_elsewhere_is_measured_like_the_others(evidence: Evidence, plugins: Plugins) -> None:
    names = {"brightness": "BRIGHTNESS", "spread": "SPREAD", "unasked": "UNASKED"}
    plugins.install(METRICS, {name: f"{{module}}:{attribute}" for name, attribute in names.items()}, source=STRANGER)
    values = measure("comparison", evidence)
    assert values["brightness"] == pytest.approx(float(evidence["generated"].batch(range(6))[0].mean()))
    assert values["spread/ground"] == pytest.approx(75) and values["spread/sky"] == 1 and "spread/wall" not in values
    assert values["spread"] == pytest.approx(38), "the mean of the classes with a value, over layouts"
    assert "unasked" not in values and "fid" in values
    of_report = measure("report", evidence)
    assert of_report["brightness"] == values["brightness"] and "spread" not in of_report
    assert columns_of_comparison()[-3]["title"] == "brightness, level"
    assert rows_of_report()[-2]["meaning"] == "Mean of all pixels."
    json.dumps(values, allow_nan=False)


def test_a_metric_may_return_a_tensor(evidence: Evidence, plugins: Plugins) -> None:
    source = """
from scenepalette.evaluation.registry import Metric
import torch
LEVEL = Metric("level", "a level", ("generated",), lambda generated: torch.tensor(0.25, dtype=torch.bfloat16))
CLASSES = Metric("classes", "a level per class", ("generated",), lambda generated: torch.tensor([1, 2, 6]))
"""
    plugins.install(METRICS, {"level": "{module}:LEVEL", "classes": "{module}:CLASSES"}, source=source)
    values = measure("report", evidence)
    assert values["level"] == 0.25 and values["classes"] == 3 and values["classes/sky"] == 6


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("BROKEN", "broken is absent: stranger 1.0 failed (ZeroDivisionError: division by zero)."),
        ("TEXT", "text is absent: stranger 1.0 returned str; required is a number or an array of 3, one per class."),
        ("MIXED", "mixed is absent: stranger 1.0 returned a number for some layouts and an array for others."),
        (
            "LETTERS",
            "letters is absent: stranger 1.0 returned ndarray; required is a number or an array of 3, one per class.",
        ),
        ("NAN", "nan is absent: it never has a value."),
    ],
)
def test_a_metric_that_fails_is_absent_with_its_reason(
    attribute: str, reason: str, evidence: Evidence, plugins: Plugins
) -> None:
    name = attribute.lower()
    plugins.install(METRICS, {name: f"{{module}}:{attribute}"}, source=STRANGER)
    values = measure("report", evidence)
    assert values[name] is None and values[f"{name}_absent_because"] == reason
    assert values["segmenter_frechet"] is not None


def test_a_metric_that_cannot_be_used_is_one_line(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    source = "from scenepalette.evaluation.registry import Metric\nM = Metric('m', 'x', ('pixels',), 3, better='big')"
    with caplog.at_level(logging.WARNING):
        plugins.install(METRICS, {"m": "{module}:M"}, source=source)
        plugins.install(METRICS, {"number": "{module}:M"}, source="M = 3", name="other")
        assert not {"m", "number"} & set(METRICS)
    lines = METRICS.problems()
    assert [record.message for record in caplog.records] == list(lines) and len(lines) == 2
    assert "needs: 'pixels'; known are real" in lines[0] and "better: 'big'" in lines[0]
    assert "it is of type int; a scenepalette.evaluation.registry.Metric is required" in lines[1]


def test_a_metric_names_all_its_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        Metric("m", "x", ("pixels",), 3, better="big", shown=frozenset({"poster"}), of="sounds")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 5


def test_the_documented_metric_works(evidence: Evidence, plugins: Plugins) -> None:
    text = (Path(__file__).parents[2] / "docs" / "extending" / "adding-a-metric.md").read_text(encoding="utf-8")
    source = text.partition("```python\n")[2].partition("```")[0]
    plugins.install(METRICS, {"edges": "{module}:EDGES"}, source=source)
    images = evidence["generated"].batch(range(6))[0].numpy()
    assert measure("report", evidence)["edges"] == pytest.approx(np.abs(np.diff(images, axis=-1)).mean(), rel=1e-4)
