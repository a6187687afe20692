"""Files for work pools: the deployments of prefect.yaml, what Prefect and Kubernetes take, and nothing overwritten."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.utilities.templating import apply_values
from typer.testing import CliRunner

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.starting.platforms.deployment_files import (
    PLATFORMS,
    PoolType,
    next_commands,
    platform_files,
    write_platform_files,
)

ROOT = Path(__file__).parents[4]
OWN = yaml.safe_load((ROOT / "prefect.yaml").read_text())
POOLS = get_args(PoolType)
# Prefect's own copies of what its workers take.
TEMPLATES = json.loads(
    resources.files("prefect.server.api").joinpath("collections_data/views/aggregate-worker-metadata.json").read_text()
)
KUBERNETES = TEMPLATES["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]


def deployments(pool: PoolType, directory: str = "/srv/flows", image: str = "registry/worker:1") -> dict[str, Any]:
    return yaml.safe_load(platform_files(pool, directory, image)[PLATFORMS[pool].deployments])


def template() -> dict[str, Any]:
    return json.loads(platform_files("kubernetes", "/app", "registry/worker:1")["kubernetes-job-template.json"])


def cluster() -> dict[str, dict[str, Any]]:
    text = platform_files("kubernetes", "/app", "registry/worker:1")["kubernetes-cluster.yaml"]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(text)}


def defaults(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: entry["default"] for name, entry in schema["properties"].items() if "default" in entry}


def job() -> dict[str, Any]:
    """The job of a flow run as the worker makes it of the template and of a deployment's variables."""
    chosen = deployments("kubernetes")["deployments"][0]["work_pool"]["job_variables"]
    named = {"name": "brave-newt", "labels": {"prefect.io/version": "3"}, "command": "prefect flow-run execute"}
    values = defaults(template()["variables"]) | chosen | named
    manifest = apply_values(template()["job_configuration"], values)["job_manifest"]
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    # What the worker does with texts and mappings afterwards.
    container["args"] = container["args"].split()
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    manifest["metadata"]["labels"] = {"app": "prefect"}
    return manifest


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_has_the_deployments_of_prefect_yaml(pool: PoolType) -> None:
    content = deployments(pool)
    PrefectYamlModel.model_validate(content)
    assert content["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv/flows"}}]
    assert len(content["deployments"]) == len(OWN["deployments"])
    for ours, own in zip(content["deployments"], OWN["deployments"], strict=True):
        assert {key: value for key, value in ours.items() if key != "work_pool"} == {
            key: value for key, value in own.items() if key != "work_pool"
        }
        assert ours["work_pool"]["name"] == PLATFORMS[pool].pool
        # Heartbeats, on which the automation for dead runs relies, are sent on all platforms.
        assert ours["work_pool"]["job_variables"]["env"] == own["work_pool"]["job_variables"]["env"]


def test_docker_gets_variables_that_its_worker_takes() -> None:
    variables = TEMPLATES["prefect-docker"]["docker"]["default_base_job_configuration"]["variables"]
    for deployment in deployments("docker")["deployments"]:
        chosen = deployment["work_pool"]["job_variables"]
        jsonschema.validate(chosen, variables)
        assert chosen.keys() <= variables["properties"].keys() and chosen["image"] == "registry/worker:1"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**chosen, "volumes": "runs:/app/runs"}, variables)


def test_the_image_has_the_folders_that_volumes_are_mounted_at() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert "WORKDIR /app" in dockerfile and "VOLUME /app/runs" in dockerfile and "--uid 1000" in dockerfile
    volumes = deployments("docker")["deployments"][0]["work_pool"]["job_variables"]["volumes"]
    assert [volume.split(":", 1)[1] for volume in volumes] == ["/app/runs", "/data:ro"]
    # Arguments alone start the flow run: no entry point comes before them.
    assert "ENTRYPOINT" not in dockerfile


def test_the_job_template_is_a_schema_whose_variables_are_used_and_fit() -> None:
    variables, configuration = template()["variables"], template()["job_configuration"]
    jsonschema.Draft7Validator.check_schema(variables)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(configuration)))
    assert used == variables["properties"].keys()
    # What Prefect's worker reads of it, and every variable that its own template has.
    assert configuration.keys() == KUBERNETES["job_configuration"].keys()
    assert KUBERNETES["variables"]["properties"].keys() <= variables["properties"].keys()
    for deployment in deployments("kubernetes")["deployments"]:
        chosen = deployment["work_pool"]["job_variables"]
        jsonschema.validate(defaults(variables) | chosen, variables)
        assert chosen.keys() <= variables["properties"].keys()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**chosen, "gpus": 2}, variables)


def test_jobs_and_the_cron_job_mount_volumes_that_the_cluster_has() -> None:
    objects = cluster()
    assert objects.keys() == {
        "Namespace/scenepalette",
        "PersistentVolumeClaim/scenepalette-runs",
        "PersistentVolumeClaim/scenepalette-data",
        "CronJob/scenepalette-nightly",
    }
    nightly = objects["CronJob/scenepalette-nightly"]
    assert nightly["spec"]["suspend"] is True
    for manifest in (job(), nightly["spec"]["jobTemplate"]):
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        claims = {each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"]}
        assert {f"PersistentVolumeClaim/{claim}" for claim in claims.values()} <= objects.keys()
        mounts = {each["mountPath"]: claims[each["name"]] for each in container["volumeMounts"]}
        assert mounts == {"/app/runs": "scenepalette-runs", "/data": "scenepalette-data"}
        assert container["workingDir"] == "/app" and container["image"] == "registry/worker:1"
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["fsGroup"] == 1000
    assert {each["metadata"].get("namespace", "scenepalette") for each in (*objects.values(), job())} == {
        "scenepalette"
    }
    (container,) = nightly["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    result = CliRunner().invoke(app, [*container["args"][1:2], "--help"])
    assert container["args"][0] == "scenepalette" and result.exit_code == 0


def test_kubernetes_takes_the_job_and_the_objects_of_the_cluster() -> None:
    checker = pytest.importorskip("kubernetes_validate", reason="the package kubernetes-validate is not installed")
    newest = checker.latest_version()
    for manifest in (job(), *cluster().values()):
        checker.validate(manifest, newest, strict=True)
    wrong = job()
    wrong["spec"]["template"]["spec"]["parallelism"] = 1
    with pytest.raises(checker.ValidationError):
        checker.validate(wrong, newest, strict=True)


def test_the_files_are_written_once_and_nothing_of_a_user_is_replaced_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "a folder/flows"
    assert set(write_platform_files(folder).values()) == {"created"}
    assert {path.name for path in folder.iterdir()} == {"prefect.yaml", "automations.yaml", "prefect.toml"}
    pull = yaml.safe_load((folder / "prefect.yaml").read_text())["pull"]
    assert pull == [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}]
    for name in ("automations.yaml", "prefect.toml"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert set(write_platform_files(folder).values()) == {"unchanged"}
    changes = write_platform_files(folder, "docker")
    assert changes == {"prefect.docker.yaml": "created", "automations.yaml": "unchanged", "prefect.toml": "unchanged"}
    (folder / "automations.yaml").write_text("mine")
    (folder / "prefect.toml").unlink()
    with pytest.raises(ConfigError, match=r"nothing was written.*--force") as refused:
        write_platform_files(folder, directory='/else"where')
    assert refused.value.problems == ("prefect.yaml", "automations.yaml")
    assert (folder / "automations.yaml").read_text() == "mine" and not (folder / "prefect.toml").exists()
    changes = write_platform_files(folder, directory='/else"where', force=True)
    assert changes == {"prefect.yaml": "replaced", "automations.yaml": "replaced", "prefect.toml": "created"}
    pull = yaml.safe_load((folder / "prefect.yaml").read_text())["pull"]
    assert pull == [{"prefect.deployments.steps.set_working_directory": {"directory": '/else"where'}}]


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below/it"):
        with pytest.raises(ConfigError, match=rf"{tmp_path}/file is a file, where a folder is needed"):
            write_platform_files(folder)
    (tmp_path / "prefect.yaml").mkdir()
    with pytest.raises(ConfigError, match="folders where files are to be written"):
        write_platform_files(tmp_path)
    with pytest.raises(ConfigError, match="cannot be made"):
        write_platform_files(Path("/proc/scenepalette"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="may not be written"):
        write_platform_files(tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())


def test_arguments_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        write_platform_files(tmp_path / "x", image="worker", directory=" ")
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["--image", "--worker-directory"]
    for image in ("", "a b", "x\n  name: y", "-x", "x:"):
        with pytest.raises(ConfigError, match="is no image"):
            write_platform_files(tmp_path / "x", "docker", image=image)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("pool", POOLS)
def test_the_command_says_what_it_wrote_and_what_to_type_next(
    pool: PoolType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here it is"
    result = CliRunner().invoke(app, ["prefect", "init", str(folder), "--pool", pool])
    assert result.exit_code == 0, result.output
    for path in folder.iterdir():
        assert f"{path}: created" in result.stdout
    commands = next_commands(folder, pool)
    assert all(command in result.stdout for command in commands) and commands[0] == f"cd '{folder}'"
    # Files that commands name are there.
    named = [word for command in commands for word in command.split() if re.search(r"\.(yaml|json)$", word)]
    assert named and all((folder / name).is_file() for name in named)
    monkeypatch.chdir(folder)
    assert next_commands(Path("."), pool) == next_commands(folder, pool) == commands[1:]
    again = CliRunner().invoke(app, ["prefect", "init", str(folder), "--pool", pool, "--worker-directory", "/x"])
    assert again.exit_code == 1 and PLATFORMS[pool].deployments in again.stderr
