"""Write what `prefect deploy` needs into a folder: deployments for a kind of work pool, automations, settings.

Deployments are those of scenepalette's own prefect.yaml; kinds of work pools differ in its block `work_pool` and in
where a worker finds its working directory.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import scenepalette
from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import write_atomically

PoolType = Literal["process", "docker", "kubernetes"]
Change = Literal["created", "unchanged", "replaced"]

IMAGE = "scenepalette-worker"
"""Name of the image that docs/prefect.md builds."""
IMAGE_FOLDER = "/app"
"""Working directory of that image, with run directories in runs/."""

_PACKAGE = Path(scenepalette.__file__).parent
_HERE = Path(__file__).parent
_WORK_POOL = re.compile(r"^  work_pool: &work_pool\n(?: {4}.*\n)+", re.MULTILINE)
_DEFINITIONS = "definitions:\n"
# A reference of an image: registry, name, and a tag or digest.
_IMAGE_NAME = re.compile(r"[A-Za-z0-9]([\w.\-/:@]*\w)?", re.ASCII)


@dataclass(frozen=True)
class Platform:
    """What is written for a kind of work pool.

    Attributes:
        pool: Name of the work pool.
        deployments: Name of the file of deployments.
        others: Files beside it that no other kind has.
        create: What `prefect work-pool create` is told beside the name and the kind.
        worker: What the worker's Python needs beside Prefect.
    """

    pool: str
    deployments: str
    others: tuple[str, ...] = ()
    create: str = ""
    worker: str = ""


PLATFORMS: dict[PoolType, Platform] = {
    "process": Platform("scenepalette", "prefect.yaml"),
    "docker": Platform("scenepalette-docker", "prefect.docker.yaml", worker="prefect-docker"),
    "kubernetes": Platform(
        "scenepalette-kubernetes",
        "prefect.kubernetes.yaml",
        ("kubernetes-job-template.json", "kubernetes-cluster.yaml"),
        " --base-job-template kubernetes-job-template.json",
        worker="prefect-kubernetes",
    ),
}


def platform_files(pool: PoolType, directory: str, image: str = IMAGE) -> dict[str, str]:
    """Return the files for a kind of work pool by name.

    Args:
        pool: Kind of the work pool.
        directory: Folder on the worker's machine, or in its image, that flows run in.
        image: The image that flow runs use; "process" has none.
    """
    own, platform = (_PACKAGE / "prefect.yaml").read_text(encoding="utf-8"), PLATFORMS[pool]
    if pool != "process":
        block = (_HERE / f"{pool}.yaml").read_text(encoding="utf-8").replace("IMAGE", image)
        own = _WORK_POOL.sub(lambda match: block, own)
    deployments = own.replace(_DEFINITIONS, f"{_pull_steps(directory)}\n{_DEFINITIONS}", 1)
    shared = {name: (_PACKAGE / name).read_text(encoding="utf-8") for name in ("automations.yaml", "prefect.toml")}
    others = {name: (_HERE / name).read_text(encoding="utf-8").replace("IMAGE", image) for name in platform.others}
    return {platform.deployments: deployments, **shared, **others}


def _pull_steps(directory: str) -> str:
    """Return what a worker does before a flow run: it goes to a folder, as relative paths begin there."""
    return f"""\
# What a worker does before each flow run. Relative paths of parameters begin in this folder, which has to be there on
# every machine with a worker. The flows themselves come with the installed package.
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: {json.dumps(directory, ensure_ascii=False)}
# In its place, for recipes that are kept in a repository; run directories then need absolute paths (out):
#   - prefect.deployments.steps.git_clone:
#       repository: https://git.example.org/team/recipes.git
#       branch: main
"""


def write_platform_files(
    folder: Path,
    pool: PoolType = "process",
    *,
    directory: str | None = None,
    image: str | None = None,
    force: bool = False,
) -> dict[str, Change]:
    """Write the files for a kind of work pool into a folder, which is made if it is not there.

    Args:
        folder: The folder.
        pool: Kind of the work pool.
        directory: Folder on the worker's machine that flows run in; by default `folder` itself for processes, and that
            of the image otherwise.
        image: The image that flow runs use; not for processes.
        force: Whether files of the same names with another content are replaced.

    Returns:
        What was done, by name of the file.

    Raises:
        ConfigError: The folder is a file, a file is in the way, or an argument cannot be used; nothing was written.
        ScenepaletteError: The folder cannot be written.
    """
    problems = []
    if image is not None and pool == "process":
        problems.append("--image: processes have no image; leave it out, or add --pool docker or --pool kubernetes")
    elif image is not None and not _IMAGE_NAME.fullmatch(image):
        problems.append(f"--image: {image!r} is no image; write it as REGISTRY/NAME:TAG")
    if directory is not None and (not directory.strip() or not directory.isprintable()):
        problems.append(f"--worker-directory: {directory!r} is no folder; name one on the worker's machine")
    if problems:
        raise ConfigError("The files cannot be written like this.", problems)
    if directory is None:
        directory = str(folder.absolute()) if pool == "process" else IMAGE_FOLDER
    files = platform_files(pool, directory, image or IMAGE)
    changes = _changes(folder, files)
    differing = [name for name, change in changes.items() if change == "replaced"]
    if differing and not force:
        raise ConfigError(
            f"{folder} has files of these names with another content, and nothing was written. Name another folder, or "
            "add --force to replace them.",
            differing,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be made: {error.strerror or error}. Name one that you may write."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"The folder {folder} may not be written. Name another one, or change its permissions.")
    for name, change in changes.items():
        if change != "unchanged":
            write_atomically(folder / name, files[name])
    return changes


def _changes(folder: Path, files: dict[str, str]) -> dict[str, Change]:
    """Return what writing files would do.

    Raises:
        ConfigError: The folder is a file, or a folder has a file's name.
    """
    ways = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if ways.exists() and not ways.is_dir():
        raise ConfigError(f"{ways} is a file, where a folder is needed. Name another folder, or move the file away.")
    blocked = [name for name in files if (folder / name).is_dir()]
    if blocked:
        raise ConfigError(f"{folder} has folders where files are to be written. Name another folder.", blocked)
    changes: dict[str, Change] = {}
    for name, text in files.items():
        path = folder / name
        if not path.exists():
            changes[name] = "created"
        else:
            changes[name] = "unchanged" if _content(path) == text.encode() else "replaced"
    return changes


def _content(path: Path) -> bytes | None:
    """Return a file's bytes, or None if they may not be read: it is not what would be written."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def next_commands(folder: Path, pool: PoolType) -> list[str]:
    """Return the commands that deploy from a folder and start a worker, for someone whose server runs."""
    platform = PLATFORMS[pool]
    chosen = "" if pool == "process" else f" --prefect-file {platform.deployments}"
    install = [f"pip install {platform.worker}"] if platform.worker else []
    cluster = ["kubectl apply --filename kubernetes-cluster.yaml"] if pool == "kubernetes" else []
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    return [
        *enter,
        *cluster,
        f"prefect work-pool create {platform.pool} --type {pool}{platform.create}",
        f"prefect --no-prompt deploy --all{chosen}",
        "python -m scenepalette.flows.automations automations.yaml",
        *install,
        f"prefect worker start --pool {platform.pool}",
    ]
