"""Engines: what does the trials of a study, behind one small interface."""

from timelocal.studies.engines.engine import Engine, Outcome
from timelocal.studies.engines.in_process import InProcess
from timelocal.studies.engines.joblib_engine import JoblibEngine
from timelocal.studies.engines.ray_engine import RayEngine

__all__ = ["Engine", "InProcess", "JoblibEngine", "Outcome", "RayEngine"]
