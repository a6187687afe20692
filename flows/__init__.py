"""Prefect flows over the pipeline, and their deployments; the only place that imports prefect."""
