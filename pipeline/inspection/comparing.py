"""The reports of two runs side by side: in which settings and data they differ, and what each arm reached in both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import read_json
from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import first_and_more
from scenepalette.pipeline.run_directory.manifests import MANIFEST, check_contents, identity_in, read_record
from scenepalette.pipeline.run_directory.ownership import check_holds_run

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SettingDifference:
    """A setting that two runs have different values of.

    Attributes:
        name: The setting, as the units' manifests name it.
        a: Its value in the first run; None where it has none.
        b: The same in the second.
        units: Units that were made with it.
    """

    name: str
    a: Any
    b: Any
    units: tuple[str, ...]


@dataclass(frozen=True)
class RunComparison:
    """Two reports side by side.

    Attributes:
        a: The first run.
        b: The second.
        documents: What both report.json hold.
        settings: Settings that differ.
        data: For each split that one of the runs has, whether the prepared pairs are equal.
        warnings: What keeps scores from being compared, one sentence each.
    """

    a: Path
    b: Path
    documents: tuple[Mapping[str, Any], Mapping[str, Any]]
    settings: tuple[SettingDifference, ...]
    data: Mapping[str, bool]
    warnings: tuple[str, ...]

    @property
    def arms(self) -> list[dict[str, Any]]:
        """The arms of either report: "name", "a" and "b" (entries of report.json or None), and "difference" of mIoU."""
        first, second = ({arm["name"]: arm for arm in document["arms"]} for document in self.documents)
        found = []
        for name in dict.fromkeys([*first, *second]):
            a, b = first.get(name), second.get(name)
            means = [arm["miou"]["mean"] for arm in (a, b) if arm is not None]
            both = len(means) == 2 and None not in means
            found.append({"name": name, "a": a, "b": b, "difference": means[1] - means[0] if both else None})
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; scores are fractions, `difference` is that of the second run from the first."""
        kept = ("miou", "delta_vs_real", "verdict", "seeds", "generator_seeds", "steps", "pairs")

        def shown(arm: Mapping[str, Any] | None) -> dict[str, Any] | None:
            return None if arm is None else {key: arm.get(key) for key in kept}

        return {
            "a": str(self.a),
            "b": str(self.b),
            "comparable": not self.warnings,
            "warnings": list(self.warnings),
            "data": dict(self.data),
            "settings": [{**vars(each), "units": list(each.units)} for each in self.settings],
            "arms": [{**arm, "a": shown(arm["a"]), "b": shown(arm["b"])} for arm in self.arms],
        }


def compare_runs(a: Path, b: Path) -> RunComparison:
    """Put the reports of two runs side by side; nothing is computed anew.

    Raises:
        ConfigError: Both are the same folder.
        ScenepaletteError: A folder holds no run, or its report is not finished or damaged; all told at once.
    """
    if os.path.realpath(a) == os.path.realpath(b):
        raise ConfigError(f"{a} and {b} are the same run. Name two.")
    problems, documents = list[str](), list[Mapping[str, Any]]()
    for run_dir in (a, b):
        try:
            documents.append(_document(run_dir))
        except ScenepaletteError as error:
            problems.append(" ".join([error.summary, *error.problems]))
    if problems:
        raise ScenepaletteError("The runs cannot be compared.", problems)
    first, second = documents
    records = (_records(a), _records(b))
    data = _equal_splits(*(each.get("data", {}) for each in records))
    warnings = [*_warnings(first, second, data), *_other_code(*records)]
    warnings += [*_outdated(a, records[0]), *_outdated(b, records[1])]
    return RunComparison(a, b, (first, second), _settings(*records), data, tuple(warnings))


def _document(run_dir: Path) -> Mapping[str, Any]:
    check_holds_run(run_dir)
    folder = run_dir / "report"
    if not (folder / MANIFEST).is_file():
        raise ScenepaletteError(
            f"{run_dir} has no finished report: make it with `scenepalette report {run_dir / 'config.yaml'} --out "
            f"{run_dir}`."
        )
    check_contents(folder)
    return read_json(folder / "report.json")


def _records(run_dir: Path) -> dict[str, Mapping[str, Any]]:
    """Return the manifests of a report and of all that it was made from, by unit; absent ones are left out."""
    report = read_record(run_dir / "report" / MANIFEST)
    names = [*identity_in(report).get("inputs", {})]
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        if (run_dir / name / MANIFEST).is_file():
            found[name] = read_record(run_dir / name / MANIFEST)
    return {**found, "report": report}


def _equal_splits(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether the prepared images and labels of each split are equal, by the manifests of the units "data"."""

    def hashes(record: Mapping[str, Any], split: str) -> list[str | None]:
        files = record.get("files", {})
        return [files.get(f"{part}-{split}.npy", {}).get("sha256") for part in ("images", "labels")]

    pairs = {split: (hashes(a, split), hashes(b, split)) for split in SPLITS}
    return {split: first == second for split, (first, second) in pairs.items() if any([*first, *second])}


def _settings(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> tuple[SettingDifference, ...]:
    found: dict[tuple[str, str, str], SettingDifference] = {}
    only_a, only_b = ([name for name in one if name not in other] for one, other in ((a, b), (b, a)))
    if only_a or only_b:  # such as images/oasis against images/crn
        found[("units", "", "")] = SettingDifference("units", only_a, only_b, ())
    for name in (name for name in a if name in b):
        before, now = (identity_in(records[name]).get("settings", {}) for records in (a, b))
        for key in sorted({*before, *now} - {"content"}):
            if before.get(key) != now.get(key):
                place = (key, repr(before.get(key)), repr(now.get(key)))
                units = found[place].units if place in found else ()
                found[place] = SettingDifference(key, before.get(key), now.get(key), (*units, name))
    return tuple(found.values())


def _warnings(a: Mapping[str, Any], b: Mapping[str, Any], data: Mapping[str, bool]) -> list[str]:
    """Return what keeps the scores of two reports from being compared."""
    texts = []
    first, second = a["dataset"], b["dataset"]
    for key, noun in (("name", "data set"), ("size", "image size")):
        if first[key] != second[key]:
            texts.append(f"The {noun} is {short(str(first[key]))} in A and {short(str(second[key]))} in B.")
    if first["classes"] != second["classes"]:
        texts.append(f"The classes differ: A has {len(first['classes'])}, B has {len(second['classes'])}.")
    elif first["eval_classes"] != second["eval_classes"]:
        texts.append("Other classes count in the mIoU.")
    # Reports of version 0.2.0, which are of validation, do not name it.
    splits = [document["dataset"].get("split", {}).get("name", "validation") for document in (a, b)]
    if splits[0] != splits[1]:
        texts.append(f"A reports on {splits[0]} images, B on {splits[1]} ones.")
    elif not data.get("val" if splits[0] == "validation" else splits[0], True):
        texts.append(f"The {splits[0]} images that scores are measured on differ.")
    if not data.get("train", True):
        texts.append("The real training pairs differ.")
    other = {arm["name"]: arm for arm in b["arms"]}
    both = [(arm, other[arm["name"]]) for arm in a["arms"] if arm["name"] in other]
    if not both:
        texts.append("No arm is in both reports.")
    names = [one["name"] for one, another in both if one["seeds"] != another["seeds"]]
    if names:
        texts.append(f"Arms were trained with other seeds: {', '.join(names)}.")
    return texts


def _other_code(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which stages computed otherwise: a change of what a stage computes raises its version."""
    stages = dict[str, str]()
    for name in (name for name in a if name in b):
        first, second = (identity_in(records[name]).get("version") for records in (a, b))
        if first != second:
            stages.setdefault(name.partition("/")[0], f"version {first} of its code in A, {second} in B")
    return [f"The stage {stage} was made by {text}." for stage, text in stages.items()]


def _outdated(run_dir: Path, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say if units were made again, or removed, since a report was made from them."""
    read = identity_in(records["report"]).get("inputs", {})
    changed = [
        name
        for name, fingerprint in read.items()
        if name not in records or identity_in(records[name]).get("fingerprint") != fingerprint
    ]
    if not changed:
        return []
    return [f"The report of {run_dir} is older than its {first_and_more(changed)}: make the report again."]
