"""Geometry, materials and light behind the embedded street scenes of `data.streets`."""
