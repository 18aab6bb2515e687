"""Every experiment by name: the tables and figures of both papers, and the questions beyond them."""

from timelocal.experiments.beyond import (
    delays,
    feedback,
    forward_only,
    gap,
    gated,
    meet,
    memory,
    published,
    rewards,
    spiking,
    weather,
)
from timelocal.experiments.experiment import Experiment
from timelocal.experiments.papers import dfa, perturbation

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        *dfa.EXPERIMENTS,
        *perturbation.EXPERIMENTS,
        *gap.EXPERIMENTS,
        *meet.EXPERIMENTS,
        *gated.EXPERIMENTS,
        *spiking.EXPERIMENTS,
        *rewards.EXPERIMENTS,
        *forward_only.EXPERIMENTS,
        *memory.EXPERIMENTS,
        *delays.EXPERIMENTS,
        *feedback.EXPERIMENTS,
        *published.EXPERIMENTS,
        *weather.EXPERIMENTS,
    )
}
