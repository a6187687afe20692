"""Networks of layout generators."""
