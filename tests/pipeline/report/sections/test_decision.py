"""Every branch of the decision, and the command that follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from scenepalette.pipeline.report.sections.decision import Decision, decide, next_command


def _document(
    interval: tuple[float | None, float | None] = (0.015, 0.03),
    mean: float | None = 0.02,
    seeds: int = 5,
    detectable: float | None = 0.012,
    longer: tuple[float, float, float] | None = None,
    deviation: float = 0.01,
    other_error: float = 0.0,
) -> dict[str, Any]:
    """What the decision reads of a document: real+full against copy-paste."""
    delta = None if longer is None else {"mean": longer[1], "ci95": [longer[0], longer[2]]}
    names = list(range(seeds))
    arms = [
        {
            "name": "real",
            "seeds": names,
            "steps": 100,
            "pairs": None,
            "delta_vs_real": {"mean": 0.0, "ci95": [0.0, 0.0]},
        },
        {"name": "real+full", "seeds": names, "steps": 100, "pairs": {"kind": "full", "count": 300}},
    ]
    if delta is not None:
        arms.append({"name": "real-long", "seeds": names, "steps": 200, "pairs": None, "delta_vs_real": delta})
    return {
        "arms": arms,
        "smallest_gain": 0.01,
        "primary": {
            "treatment": "real+full",
            "control": "copy-paste",
            "miou": {"mean": mean, "ci95": list(interval)},
            "seeds": names,
            "detectable": detectable,
            "seed_deviation": deviation if seeds > 1 else None,
            "other_error": other_error,
        },
        "provenance": {"command": "scenepalette run demo --out runs/a", "run_dir": "runs/a"},
    }


def test_no_arm_with_generated_pairs_is_no_reason_to_adopt() -> None:
    document = _document() | {"primary": None}
    assert decide(document).answer == "do not"
    assert "nothing was tried" in decide(document).reason
    assert next_command(document, decide(document)) is None


@pytest.mark.parametrize(
    ("values", "answer", "reason"),
    [
        ({}, "adopt", "interval lies above zero"),
        ({"mean": 0.01, "interval": (0.001, 0.02)}, "adopt", "the gain reaches +1.0 points"),
        ({"mean": 0.008, "interval": (0.002, 0.014)}, "do not", "below +1.0 points"),
        ({"mean": -0.02, "interval": (-0.03, -0.01)}, "do not", "worse than copy-paste."),
        ({"mean": -0.02, "interval": (-0.03, -0.01), "seeds": 1}, "do not", "on these images; seed unknown"),
        ({"mean": 0.002, "interval": (-0.004, 0.008)}, "do not", "leaves out +1.0 points"),
        ({"mean": 0.002, "interval": (-0.004, 0.008), "seeds": 1}, "try more seeds", "open with one seed"),
        ({"mean": 0.002, "interval": (-0.004, 0.008), "seeds": 2}, "try more seeds", "open with 2 paired seeds"),
        ({"seeds": 1, "detectable": None}, "try more seeds", "promising with one seed"),
        ({"seeds": 4}, "try more seeds", "promising with 4 paired seeds"),
        ({"mean": 0.012, "interval": (-0.01, 0.03), "seeds": 2}, "try more seeds", "open with 2 paired seeds"),
        ({"mean": 0.012, "interval": (-0.01, 0.03), "detectable": 0.02}, "try more seeds", "paired seeds would show"),
        ({"mean": 0.012, "interval": (-0.01, 0.03), "detectable": 0.011}, "do not", "would have shown"),
        (
            {"mean": 0.012, "interval": (-0.01, 0.03), "detectable": 0.03, "other_error": 0.01},
            "do not",
            "even 20 seeds could not",
        ),
        ({"mean": None, "interval": (None, None), "seeds": 1}, "try more seeds", "nothing that an interval"),
        ({"longer": (0.005, 0.02, 0.04)}, "do not", "has not converged"),
        ({"longer": (-0.005, 0.02, 0.04)}, "adopt", "interval lies above zero"),
        ({"longer": (0.001, 0.005, 0.009)}, "adopt", "interval lies above zero"),
    ],
)
def test_the_contrast_decides(values: dict[str, Any], answer: str, reason: str) -> None:
    decision = decide(_document(**values))
    assert decision.answer == answer
    assert reason in decision.reason


def test_wanted_seeds_are_those_that_would_show_the_gain() -> None:
    # Quantiles of t at eight seeds: (2.365 + 0.896) x 0.01 / sqrt(8) = 0.0115; at seven it would be 0.0127.
    decision = decide(_document(mean=0.012, interval=(-0.01, 0.03), detectable=0.02))
    assert decision.seeds == 8


@pytest.mark.parametrize(
    ("decision", "seeds", "expected"),
    [
        (Decision("adopt", ""), 5, "scenepalette shards verify runs/a/shards/full"),
        (Decision("do not", ""), 5, "scenepalette shards show runs/a/shards/full"),
        (
            Decision("try more seeds", "", seeds=5),
            2,
            "scenepalette run demo --out runs/a --set 'segmenters.seeds=[0,1,2,3,4]'",
        ),
        (
            Decision("do not", "", steps=200),
            5,
            "scenepalette run demo --set segmenters.steps=200 --models-from runs/a --out runs/a-longer",
        ),
    ],
)
def test_the_next_command_follows_from_the_answer(decision: Decision, seeds: int, expected: str) -> None:
    assert next_command(_document(seeds=seeds), decision) == expected


def test_pooled_runs_get_a_line_each_before_the_command() -> None:
    document = _document(seeds=2) | {"pooled": {"runs": {"runs/a": 0, "/my b": 1}, "notes": []}}
    more = next_command(document, Decision("try more seeds", "", seeds=3))
    assert more == (
        "scenepalette train-segmenter '/my b/config.yaml' --set 'segmenters.seeds=[0,1,2]' --out '/my b'\n"
        "scenepalette run demo --out runs/a --set 'segmenters.seeds=[0,1,2]'"
    )
    longer = next_command(document, Decision("do not", "", steps=200))
    assert longer == (
        "scenepalette train-segmenter '/my b/config.yaml' --set segmenters.steps=200 --models-from "
        "'/my b' --out '/my b-longer'\n"
        "scenepalette run demo --set segmenters.steps=200 --models-from runs/a "
        "--set 'report.runs=[/my b-longer]' --out runs/a-longer"
    )


@pytest.mark.parametrize(
    ("generator_error", "remedy"),
    [(None, "more test images"), (0.01, "more test images"), (0.019, "runs with further generator seeds")],
)
def test_what_limits_a_comparison_decides_what_could_show_more(generator_error: float | None, remedy: str) -> None:
    document = _document((-0.04, 0.05), 0.002, detectable=0.05, other_error=0.02)
    document["primary"]["generator_error"] = generator_error
    assert f"points on these images; {remedy}" in decide(document).reason


def test_seeds_that_are_there_are_kept() -> None:
    document = _document(seeds=2)
    document["arms"][0]["seeds"] = [7, 1]
    command = next_command(document, Decision("try more seeds", "", seeds=5))
    assert command is not None and command.endswith("'segmenters.seeds=[7,1,0,2,3]'")


def test_a_report_that_does_not_say_how_it_was_made_names_no_command() -> None:
    document = _document()
    document["provenance"] = {}
    assert next_command(document, decide(document)) is None
