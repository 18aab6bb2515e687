"""Gradient-Free Training of RNNs using Random Perturbations: its figures 4 to 14 and tables 1 and 2."""

from __future__ import annotations

from functools import partial

from timelocal.experiments.claims import above, at_most
from timelocal.experiments.experiment import Claim, Experiment
from timelocal.experiments.papers.perturbation import claims, deviations, lines
from timelocal.experiments.papers.perturbation.claims import key_of as key
from timelocal.experiments.papers.perturbation.lines import results
from timelocal.experiments.papers.perturbation.sizes import RATES

__all__ = ["EXPERIMENTS", "RATES", "results"]


def _figure(number: int, task: str, title: str, more: tuple[Claim, ...] = ()) -> Experiment:
    second = {"mackey-glass": ("nrmse",), "copying": ("bit_errors",)}.get(task, ("nrmse",))
    return Experiment(
        f"perturbation/figure{number}",
        f"Figure {number}: {title}",
        "How well do networks learn by random perturbations, compared with one-step backpropagation and "
        "BPTT?",
        "curves",
        ("test_loss", "train_loss", *second, "convergence"),
        partial(results, task),
        (*claims.of_task(task), *more),
        deviations.of_tasks,
    )


EXPERIMENTS = (
    _figure(4, "mackey-glass", "Mackey-Glass, 15 steps ahead"),
    _figure(5, "copying", "the copying task"),
    _figure(
        6,
        "weather-48h",
        "weather, 48 hours ahead",
        (
            above(
                "Decorrelation makes BP generalise worse.",
                [(key("weather-48h", "DBP"), key("weather-48h", "BP"))],
            ),
            at_most(
                f"Decorrelation makes BP converge faster{claims.TIME}.",
                [(key("weather-48h", "DBP"), key("weather-48h", "BP"))],
                1.0,
                "convergence",
            ),
            above(
                "DANP generalises better than ANP: its test loss exceeds its training loss by less.",
                [(key("weather-48h", "ANP"), key("weather-48h", "DANP"))],
                measure="generalization_gap",
            ),
        ),
    ),
    Experiment(
        "perturbation/figure7",
        "Figure 7: scaling with the number of hidden units",
        "Which rules still learn, and stay stable, in large networks?",
        "sizes",
        ("test_loss", "train_loss"),
        lines.scaling,
        claims.SCALING,
        deviations.of_sizes,
    ),
    Experiment(
        "perturbation/figure8",
        "Figure 8: the decorrelation loss during training",
        "How correlated are the hidden units, with and without the decorrelation mechanism?",
        "curves",
        ("decorrelation_loss", "test_loss"),
        lines.decorrelation,
        (
            above(
                "Decorrelation lowers the correlation of the hidden units.",
                [
                    (key("weather-1h", one), key("weather-1h", f"D{one}"))
                    for one in ("NP", "WP", "ANP", "BP")
                ],
            ),
        ),
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/noise",
        "The variance of the noise",
        "Does it matter how large the perturbations are?",
        "sizes",
        ("test_loss", "train_loss"),
        lines.noises,
        (claims.NOISE_CHANGES_LITTLE,),
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/decorrelation",
        "The learning rate of D",
        "How much decorrelation is best?",
        "sizes",
        ("test_loss", "decorrelation_loss", "train_loss"),
        lines.decorrelation_rates,
        claims.COMPLETE_IS_NOT_BEST,
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/gradients",
        "How close the estimates are to the gradient",
        "How well do single perturbation estimates agree with the gradient during training?",
        "curves",
        ("test_loss", "alignment"),
        lines.gradients,
        (claims.NEARER,),
        deviations.of_gradients,
    ),
    Experiment(
        "perturbation/figure9",
        "Figure 9: conventional and local node perturbation",
        "Is the loss of each step a better signal than the loss of the whole sequence?",
        "curves",
        ("test_loss", "train_loss", "bit_errors"),
        lines.node_perturbation,
        (
            above(
                "Local node perturbation is clearly better than conventional node perturbation.",
                [(key("copying", "NP, conventional"), key("copying", "NP, local"))],
            ),
        ),
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/figure10",
        "Figure 10: time and memory",
        "What does learning from one sequence cost?",
        "costs",
        ("milliseconds", "peak_megabytes"),
        lines.costs,
        (claims.COSTS_TIME,),
        deviations.of_costs,
    ),
    Experiment(
        "perturbation/figure11",
        "Figure 11: RFLO on weather, 48 hours ahead",
        "How do perturbation rules compare with another rule that needs no gradient?",
        "curves",
        ("test_loss", "train_loss", "nrmse"),
        lines.with_rflo,
        (
            above(
                "RFLO generalises much worse than ANP and BP.",
                [(key("weather-48h", "RFLO"), key("weather-48h", one)) for one in ("ANP", "BP")],
                claims.AS_GOOD,
            ),
        ),
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/figure12",
        "Figure 12: time and memory, with RFLO",
        "What does learning from one sequence cost?",
        "costs",
        ("milliseconds", "peak_megabytes"),
        partial(lines.costs, rflo=True),
        (
            above(
                "RFLO takes slightly less time than ANP.",
                [(key("copying", "ANP"), key("copying", "RFLO"))],
            ),
        ),
        deviations.of_costs,
    ),
    _figure(13, "weather-1h", "weather, 1 hour ahead"),
    _figure(14, "weather-24h", "weather, 24 hours ahead"),
    Experiment(
        "perturbation/table1",
        "Table 1: hyperparameters shared by all rules",
        "With which noise, network size, batch size and number of epochs does every rule run?",
        "settings",
        ("test_loss",),
        lines.all_tasks,
        (),
        deviations.of_tasks,
    ),
    Experiment(
        "perturbation/table2",
        "Table 2: learning rates",
        "Which learning rates of the weights and of D are best on the validation part?",
        "settings",
        ("test_loss",),
        lines.all_tasks,
        (),
        deviations.of_tasks,
    ),
)
