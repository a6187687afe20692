"""What the terminal says of finished reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenepalette.pipeline.cli.terminal.results import print_results


def test_a_difference_within_its_interval_has_one_decimal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the report, where it is 0.0."""
    miou = {"mean": 0.5, "ci95": [0.4, 0.6]}
    arms = [
        {"name": name, "miou": miou, "delta_vs_real": {"mean": mean, "ci95": [low, 0.02]}}
        for name, mean, low in (("real", 0.0, 0.0), ("semi", -0.0002, -0.01), ("syn", 0.0104, 0.0004))
    ]
    document = {"primary": None, "smallest_gain": 0.01, "arms": arms}
    monkeypatch.setattr("scenepalette.pipeline.cli.terminal.results.read_result", lambda folder, name: document)
    print_results(Path("run"), "report")
    _, real, semi, syn, *_ = capsys.readouterr().out.splitlines()
    assert real.endswith("50.0     [40.0, 60.0]")
    assert semi.endswith("  0.0 [\N{MINUS SIGN}1.0, +2.0]")
    assert syn.endswith("  +1.0 [+0.04, +2.0]")
