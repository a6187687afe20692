"""Whether a worker can make shards of a run: the same software, and the run directory as the flow run sees it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.manifests import UNFINISHED, read_record
from scenepalette.pipeline.units.records import fingerprint_of, stored_fingerprint

PACKAGES = ("scenepalette", "torch")
"""Whose versions decide the bytes of a shard."""


def versions_here() -> dict[str, str]:
    """Return the versions that decide the bytes of a shard; what torch was built for is not among them."""
    return {name: _version_of(name).partition("+")[0] for name in PACKAGES}


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of a folder that is not installed"


def run_of_worker(config: str, run_dir: str, unit: str, fingerprint: str, versions: Mapping[str, str]) -> Run:
    """Return the run that this worker makes shards of.

    Args:
        config: Its configuration as JSON.
        run_dir: The run directory.
        unit: The unit of pairs, which has begun.
        fingerprint: What identifies the unit where the flow runs.
        versions: Result of `versions_here` there.

    Raises:
        ConfigError: This worker cannot make them; all that is in the way at once.
    """
    summary = f"The worker on {socket.gethostname()} cannot make shards of this run."
    here = versions_here()
    problems = [
        f"it has {name} {here[name]}, and the flow run has {wanted}; install the same version on every machine"
        for name, wanted in versions.items()
        if here.get(name) != wanted
    ]
    begun = Path(run_dir) / unit / UNFINISHED
    if not begun.is_file() or stored_fingerprint(read_record(begun)) != fingerprint:
        what = "is that of another run" if begun.is_file() else "is not there"
        problems.append(
            f"{begun} {what}: every worker has to see the run directory of the flow run under the same absolute path. "
            "Mount it there, or give an --out folder on a file system that all of them share"
        )
    try:
        known = RunConfig.model_validate_json(config)
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        problems.append(f"it cannot use the configuration ({details}); install the same packages on every machine")
    if problems:
        raise ConfigError(summary, problems)
    # What the run reads from outside was settled when it was planned; this machine may see it elsewhere.
    run = Run(known, Path(run_dir), look=False)
    if fingerprint_of(run.units[unit], run.units) != fingerprint:
        what = "its code, or a package that adds to it, is not that of the flow run; install the same on every machine"
        raise ConfigError(summary, [f"{unit} would be another result here: {what}"])
    return run


def server_problem(cluster_address: str, server: str | None) -> str | None:
    """Return why workers of a cluster cannot reach Prefect's server, as far as the addresses tell, or None.

    Args:
        cluster_address: Of a Dask scheduler or Ray cluster.
        server: URL of the server; None for one that Prefect starts on loopback for the time of the flow.
    """
    if is_loopback(cluster_address) or (server is not None and not is_loopback(server)):
        return None
    where = f"is at {server}" if server else "would be started for this flow alone"
    return (
        f"cluster_address: workers of {cluster_address} cannot reach Prefect's server, which {where}, on the loopback "
        "of this machine; start it with `prefect server start --host ADDRESS`, an address of this machine that they "
        "reach, and set PREFECT_API_URL=http://ADDRESS:4200/api here"
    )


def is_loopback(address: str) -> bool:
    """Tell whether an address, with or without scheme and port, names this machine's loopback; "auto" of Ray does."""
    try:
        host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
        return host in ("localhost", "auto") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
