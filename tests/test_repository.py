"""The files around the code: what they say about each other, the Makefile and the package holds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PERSON = {"family-names", "given-names"}
TARGETS = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())


def load(path: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true; the base loader reads it as it is written.
    return yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def test_workflow_tests_every_python_version_that_the_package_names_and_runs_what_developers_run() -> None:
    workflow = load(".github/workflows/ci.yml")
    matrix = workflow["jobs"]["make"]["strategy"]["matrix"]
    named = {entry.rpartition(" ")[2] for entry in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", entry)}
    assert matrix["target"] == ["test", "test-slow"] and set(matrix["python"]) == named
    others = {entry["target"] for entry in matrix["include"]}
    assert {"lint", "wheel", "docs"} <= others <= TARGETS
    assert workflow["permissions"] == {"contents": "read"}


def test_makefile_describes_every_target() -> None:
    assert set(re.findall(r"^# make ([\w-]+) ", MAKEFILE, re.MULTILINE)) == TARGETS
    assert set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE)) == TARGETS


def test_citation_has_what_its_format_requires_and_agrees_with_the_package() -> None:
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"]
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    assert citation["abstract"] == PROJECT["description"]
    for work in (citation, *citation["references"]):
        assert work["title"] and work["type"]
        assert work["authors"] and all(set(author) in ({"name"}, PERSON) for author in work["authors"])


def test_issue_forms_have_unique_fields_and_ask_for_what_diagnoses_need() -> None:
    for name in ("bug", "feature"):
        form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
        assert form["name"] and form["description"]
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        ids = [field["id"] for field in fields]
        assert len(set(ids)) == len(ids) and all(field["attributes"]["label"] for field in fields)
    asked = {field.get("id"): field for field in load(".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert asked["doctor"]["validations"]["required"] == asked["provenance"]["validations"]["required"] == "true"


def test_prose_of_the_documentation_is_wrapped() -> None:
    generated = {ROOT / "docs/results/camvid-cpu/report.md", ROOT / "docs/results/systems/comparison.md"}
    pages = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")} - generated
    long = []
    for page in sorted(pages):
        prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        long += [f"{page.name}: {line}" for line in prose.splitlines() if len(line) > 120 and line[:1] != "|"]
    assert len(pages) > 30 and long == []


def test_every_work_that_the_code_cites_is_among_the_references() -> None:
    citation = re.compile(
        r"(?<!, )\b((?:Le )?[A-Z]\w+ (?:et al\.|and [A-Z]\w+)),? "  # authors; not the end of a list of them
        r"(?:\"[^\"]*\", |[A-Z]+ )?((?:19|20)\d\d)\b"  # title or venue, year
    )
    cited: dict[str, str] = {}
    for folder in ("common", "data", "training", "generators", "segmenters", "evaluation", "pipeline", "flows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = re.sub(r"\s*\n[\s#]*", " ", path.read_text(encoding="utf-8"))
            cited |= {f"{authors}, {year}": str(path) for authors, year in citation.findall(text)}
    listed = set(
        re.findall(r"^\| (.*?, \d{4})", (ROOT / "docs/references.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert len(cited) > 25
    assert not {work: path for work, path in cited.items() if work not in listed}
