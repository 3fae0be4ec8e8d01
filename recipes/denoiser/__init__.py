"""Training of the denoising encoder of a speech prior."""
