"""The image system `controlnet`: Stable Diffusion, led by a ControlNet that sees the layout."""
