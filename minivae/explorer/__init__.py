"""A page on which a latent space can be touched: one file of HTML with the weights inside, which fetches nothing."""

from .page import page
from .payload import Look, look_at
from .serve import Server

__all__ = ["Look", "Server", "look_at", "page"]
