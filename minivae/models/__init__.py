"""Models: one generative story a file."""

from .vae import VAE

__all__ = ["VAE"]
