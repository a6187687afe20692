"""What can be held about the images and services without Docker: loopback, no secrets, no root, healthy in order."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def test_ports_are_published_on_loopback_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"server": ["${PREFECT_ADDRESS:-127.0.0.1}:${PREFECT_PORT:-4200}:4200"]}


def test_the_password_comes_from_outside_and_is_asked_for() -> None:
    secrets = re.findall(r"PASSWORD: (.*)", TEXT)
    assert len(secrets) == 2
    assert all(secret.startswith("${POSTGRES_PASSWORD:?") for secret in secrets)


def test_services_start_when_what_they_need_is_ready() -> None:
    needs = {
        name: {other: entry["condition"] for other, entry in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert needs == {
        "database": {},
        "server": {"database": "service_healthy"},
        "deployments": {"server": "service_healthy"},
        "worker": {"deployments": "service_completed_successfully"},
    }
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"database", "server", "worker"}


def test_our_images_run_without_privileges_on_pinned_bases() -> None:
    for name in ("server", "deployments", "worker"):
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        target = SERVICES[name]["build"]["target"]
        stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER scenepalette\n" in stage
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.12-slim", "base", "base"]
    assert re.fullmatch(r"postgres:\d+", SERVICES["database"]["image"])


def test_runs_and_the_database_are_volumes() -> None:
    assert SERVICES["worker"]["volumes"][0] == "${SCENEPALETTE_RUNS:-runs}:/app/runs"
    assert SERVICES["database"]["volumes"] == ["database:/var/lib/postgresql/data"]
    assert {"runs", "database"} <= COMPOSE["volumes"].keys()


def test_everything_that_is_copied_is_there_and_sent_to_docker() -> None:
    copied = {source for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path.split("/")[0] for path in copied} == sent - {"*.egg-info"}
    assert all((ROOT / path).exists() for path in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= copied
