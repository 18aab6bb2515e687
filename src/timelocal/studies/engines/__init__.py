"""Engines, which run the trials of a study, behind one small interface."""

from typing import TYPE_CHECKING

from timelocal import deprecated
from timelocal.studies.engines.engine import Engine, Outcome
from timelocal.studies.engines.in_process import InProcess
from timelocal.studies.engines.processes import Processes
from timelocal.studies.engines.ray_engine import RayEngine
from timelocal.studies.engines.slurm_engine import SlurmEngine

__all__ = ["Engine", "InProcess", "Outcome", "Processes", "RayEngine", "SlurmEngine"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Names of the previous release."""
        return deprecated.renamed(__name__, name)
