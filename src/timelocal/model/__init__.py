"""A trained network with everything its predictions need: built, used, saved in one file and loaded again."""

from timelocal.model.file import load, save
from timelocal.model.model import Model

__all__ = ["Model", "load", "save"]
