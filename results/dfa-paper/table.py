"""Write results/dfa-paper/README.md from the runs in results/dfa-paper/runs: ours beside the paper's.

python results/dfa-paper/table.py
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from timelocal.analysis.statistics import Summary, summarize
from timelocal.studies.store import RunRecord, runs

HERE = Path(__file__).parent

# Table 1 of the paper, test accuracy in %: mean and standard deviation over 5 runs. The two numbers of
# the RNN on Strawberry are missing in its text.
PAPER = {
    ("strawberry", "gru-reset-before", "dfa"): (79.73, 1.23),
    ("strawberry", "gru-reset-before", "bptt"): (92.05, 2.54),
    ("libras", "gru-reset-before", "dfa"): (67.50, 3.68),
    ("libras", "gru-reset-before", "bptt"): (80.83, 9.19),
    ("libras", "rnn", "dfa"): (47.92, 3.3),
    ("libras", "rnn", "bptt"): (54.30, 18.32),
    ("ecg200", "gru-reset-before", "dfa"): (80.6, 2.25),
    ("ecg200", "gru-reset-before", "bptt"): (82.10, 1.14),
    ("ecg200", "rnn", "dfa"): (78.2, 1.47),
    ("ecg200", "rnn", "bptt"): (83.30, 2.1),
    ("strawberry", "rnn", "dfa"): None,
    ("strawberry", "rnn", "bptt"): None,
    ("row-mnist", "gru-reset-before", "dfa"): (72.49, 1.1),
    ("row-mnist", "rnn", "dfa"): (87.48, 0.74),
}

INTRODUCTION = """\
# The DFA paper's Table 1, with the update corrected

Test accuracy in %, mean ± standard deviation over seeds, [95 % t-interval of the mean]. Splits 60/20/20,
one a seed; the hyperparameters of the paper's appendix B (its DFA learning rates were chosen for updates
that are divided by their norm, which these are not); tanh RNN, and GRU with the reset gate before the
product, for DFA and BPTT alike. One Gaussian feedback matrix a layer. Made by `run.sh` and `row_mnist.sh`;
this page by `table.py`; every run's configuration, history and result is in `runs/`.

The paper reports the maximum over epochs of the *test* accuracy; our column of that name does the same,
and is optimistic. Row-MNIST here is a check of the update at Adam 5e-4 with 512 units and batch 100, far
fewer epochs than the paper's, without a BPTT run beside it.

On Strawberry DFA on the tanh RNN does not leave the majority class with the paper's hyperparameters, which
were chosen for normalised updates. On Libras BPTT on the GRU stays below DFA with the learning rate that the
paper gives for it alone, 0.01: for this cell and loss it is too large. Chosen from the paper's grid, as
DFA's are, it is another picture: Table 1 of [docs/reproduction.md](../../docs/reproduction.md).

Time per step is missing on purpose: other work ran on the machine at the same time.
"""


def cell_text(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    text = f"{100 * summary.mean:.1f}"
    if summary.sd is not None and summary.interval is not None:
        low, high = summary.interval
        text += f" ± {100 * summary.sd:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    return text


def values(found: list[RunRecord], *keys: str) -> Summary | None:
    numbers = []
    for record in found:
        value = record.result
        for key in keys:
            value = value[key]
        numbers.append(value)
    return summarize(numbers) if numbers else None


def main() -> None:
    records = runs(HERE / "runs")
    lines = [
        INTRODUCTION,
        "| data set | cell | rule | seeds | epochs | best validation | last epoch | maximum over epochs "
        "(the paper's way) | the paper | majority class | readout only |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for dataset in ("ecg200", "strawberry", "libras", "row-mnist"):
        for cell in ("rnn", "gru-reset-before"):
            for rule in ("dfa", "bptt"):
                key = (dataset, cell, rule)
                own = [
                    r
                    for r in records
                    if key == tuple(map(r.config.get, ("dataset", "cell", "rule")))
                ]
                found = [r for r in own if r.status == "finished"]
                lost = sum(r.status in ("diverged", "failed") for r in own)
                if not own:
                    continue
                paper = PAPER.get(key)
                columns = (
                    *key,
                    f"{len(found)}" + (f" (and {lost} diverged)" if lost else ""),
                    f"{own[0].config['epochs']}",
                    cell_text(values(found, "best_validation", "test_accuracy")),
                    cell_text(values(found, "last", "test_accuracy")),
                    cell_text(values(found, "max_test_accuracy")),
                    "–" if paper is None else f"{paper[0]} ± {paper[1]}",
                    cell_text(values(found, "trivial", "majority_class")),
                    cell_text(values(found, "trivial", "readout_only")),
                )
                lines.append(f"| {' | '.join(columns)} |")
    finished = Counter(
        tuple(map(r.config.get, ("dataset", "cell", "rule")))
        for r in records
        if r.status in ("finished", "diverged")
    )
    missing = [f"{' '.join(key)} ({5 - finished[key]} seeds)" for key in PAPER if finished[key] < 5]
    if missing:
        lines.append(
            f"\nNot run yet, `run.sh` and `row_mnist.sh` go on there: {', '.join(missing)}."
        )
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
