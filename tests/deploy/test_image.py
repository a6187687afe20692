"""The image of flow runs: what CI builds is what deployments name."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from scenepalette.pipeline.starting.platforms.deployment_files import IMAGE, IMAGE_FOLDER

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
STEPS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["image"]["steps"]
COMMANDS = [step["run"].replace("\\\n", " ") for step in STEPS if "run" in step]


def test_ci_builds_the_image_that_deployments_name_and_runs_it() -> None:
    (build,) = [command for command in COMMANDS if command.startswith("docker build")]
    assert re.search(rf"--file deploy/Dockerfile --target worker --tag {IMAGE}\s", build)
    runs = [command for command in COMMANDS if command.startswith("docker run")]
    assert runs and all(f" {IMAGE} " in command for command in runs)
    assert any(f":{IMAGE_FOLDER}/runs {IMAGE}" in command for command in runs)


def test_arguments_of_the_build_are_declared_where_they_are_used() -> None:
    worker = DOCKERFILE.split(" AS worker\n")[1]
    for name in re.findall(r"--build-arg (\w+)=", " ".join(COMMANDS)):
        assert worker.index(f"ARG {name}") < worker.index("RUN pip install")


def test_compose_and_the_image_of_deployments_are_one() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    assert services["worker"]["image"] == IMAGE and services["worker"]["build"]["target"] == "worker"
    assert f"WORKDIR {IMAGE_FOLDER}\n" in DOCKERFILE


def test_the_image_can_push_to_every_store_of_the_documentation() -> None:
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    named = re.findall(r"`(?:pip install ')?scenepalette\[(\w+)\]", (ROOT / "docs/storage.md").read_text())
    assert set(named) >= {"s3", "gcs", "azure", "hf"} and set(named) <= set(extras.split(","))
