"""The event of a finished report, for automations to act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.events import Event, emit_event

from scenepalette.common.storage.files import read_json
from scenepalette.pipeline.report.sections.decision import decide

REPORT_FINISHED = "scenepalette.report.finished"
RESOURCE = "scenepalette.run"
_DUE = ".scenepalette-report-event"


def report_event(run_dir: Path) -> dict[str, Any]:
    """Return the event of a finished report: its name, its resource and its payload.

    Triggers match labels of the resource, such as `scenepalette.verdict: adopt`; actions read the payload.
    """
    document = read_json(run_dir / "report" / "report.json")
    decision, primary, provenance = decide(document), document["primary"], document["provenance"]
    contrast = None
    if primary is not None:
        contrast = {
            "treatment": primary["treatment"],
            "control": primary["control"],
            "seeds": len(primary["seeds"]),
            "miou_gain": primary["miou"]["mean"],
            "miou_gain_ci95": primary["miou"]["ci95"],
        }
    return {
        "event": REPORT_FINISHED,
        "resource": {
            "prefect.resource.id": f"{RESOURCE}.{provenance['config_hash']}",
            "prefect.resource.name": run_dir.name,
            "scenepalette.verdict": decision.answer,
            "scenepalette.recipe": provenance["recipe"],
        },
        "payload": {
            "verdict": decision.answer,
            "reason": decision.reason,
            "primary": contrast,
            "smallest_gain": document["smallest_gain"],
            "miou": {arm["name"]: arm["miou"]["mean"] for arm in document["arms"]},
            # Absolute, since another deployment may run in another folder.
            "run_dir": str(run_dir.absolute()),
            "report": str((run_dir / "report" / "report.html").absolute()),
        },
    }


def expect_report(run_dir: Path) -> None:
    """Note in a run directory that a flow makes the report, so that a flow run that dies owes the event to the next."""
    (run_dir / _DUE).touch()


def emit_report_finished(run_dir: Path) -> Event | None:
    """Tell Prefect, once, that a report that flows began is finished; the event is related to the flow run.

    Args:
        run_dir: The run directory, which the caller holds, with a finished report.

    Returns:
        The event, or None if the report has had its event, if no flow began it, or where there is no server that takes
        events, which never stops a run.
    """
    if not (run_dir / _DUE).exists():
        return None
    event = emit_event(**report_event(run_dir))
    if event is not None:
        (run_dir / _DUE).unlink()
    return event
