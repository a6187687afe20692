"""The run directory: whose it is, who holds it, and the manifests of its folders."""
