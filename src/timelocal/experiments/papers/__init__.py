"""Every table and figure of the two papers, as experiments by name."""

from timelocal.experiments.papers import dfa, perturbation
from timelocal.experiments.papers.experiment import PROFILES, Experiment, Line, ProfileName

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one for one in (*dfa.EXPERIMENTS, *perturbation.EXPERIMENTS)
}

__all__ = ["EXPERIMENTS", "PROFILES", "Experiment", "Line", "ProfileName"]
