"""Prefect flows over the pipeline, and their deployments; the only place that imports prefect."""

from scenepalette.common.processors import set_waiting_policy

# Before any flow brings in torch, in the processes of workers too.
set_waiting_policy()
