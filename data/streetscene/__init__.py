"""Geometry, materials and light behind the embedded street scenes of `scenepalette.data.streets`."""
