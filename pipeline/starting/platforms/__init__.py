"""Files with which the flows are deployed from any folder: on processes, Docker or Kubernetes."""
