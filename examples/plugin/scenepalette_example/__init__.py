"""Extensions of scenepalette, one module for each kind."""
