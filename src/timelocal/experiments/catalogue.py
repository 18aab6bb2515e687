"""Every experiment by name: the tables and figures of both papers."""

from timelocal.experiments.experiment import Experiment
from timelocal.experiments.papers import dfa, perturbation

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one for one in (*dfa.EXPERIMENTS, *perturbation.EXPERIMENTS)
}
