"""Make README.md of the runs in `runs/`: `python results/perturbation-paper/table.py`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from timelocal.analysis.statistics import Summary, summarize
from timelocal.studies.store import RunRecord, runs

HERE = Path(__file__).parent
NAMES = {
    "tbptt": "BP, one step (the paper's BP)",
    "anp": "ANP",
    "np": "NP",
    "wp": "WP",
    "rflo": "RFLO, τ = 10",
    "bptt": "BPTT, true",
}
INTRODUCTION = """# The perturbation paper's tasks

Tanh RNN with 100 units, batch 10. All rules but BPTT: plain SGD with an update at every step of the
sequences, states from zero; learning rates from one grid for all rules, chosen on the validation part, then
5 seeds of the initial weights and of the noise. σ = 0.01, per-sample reward, local credit. D: the paper's
law, its rate chosen from 10⁻⁶ to 10⁻⁴. BPTT: Adam, clipped at norm 1, one update per batch of whole
sequences, so far fewer updates. Test error after the last epoch: mean ± standard deviation over seeds,
[95 % t-interval of the mean]. Every number is from `runs/`, made by `run.py`; this page by `table.py`.

On Mackey-Glass the paper's parity of ANP with one-step BP does not hold once BP is tuned over the same grid:
at equal small learning rates the two go alike (validation MSE after 40 epochs 0.0215 for BP and 0.0137 for
ANP at 3·10⁻⁴), but BP bears a learning rate several hundred times larger before it diverges, and ends at
NRMSE 0.05 where ANP ends at 0.5 to 0.7. Decorrelation halves ANP's error there. BPTT made 500 updates in all.
On the 48-hour weather ANP is below persistence and 1.2 times one-step BP, and the leaky network of
RFLO is better than both. With an orthogonal direction of noise for every node ANP reaches one-step BP on all
three tasks: figures 4 to 6 of docs/reproduction.md, where copying and BPTT on the weather are too.
"""


def main() -> None:
    by_task: dict[str, dict[tuple[str, bool], list[RunRecord]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs(HERE / "runs"):
        decorrelates = run.config.get("decorrelate") is not None
        by_task[run.config["dataset"]][run.config["rule"], decorrelates].append(run)
    page = INTRODUCTION
    for task, groups in sorted(by_task.items()):
        page += "\n" + _section(task, groups)
    (HERE / "README.md").write_text(page)


def _section(task: str, groups: dict[tuple[str, bool], list[RunRecord]]) -> str:
    lines = [
        f"## {task}",
        "",
        "| rule | lr | lr of D | epochs | seeds | test MSE | NRMSE | stable |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = [(rule, d) for rule in NAMES for d in (False, True)]
    found = {}
    for key in sorted(groups, key=order.index):
        rule, decorrelates = key
        members = groups[key]
        done = [run for run in members if run.status == "finished" and run.result]
        config = members[0].config
        errors = [run.result["metrics"]["mse"] for run in done if run.result]
        scaled = [run.result["metrics"]["nrmse"] for run in done if run.result]
        name = ("D + " if decorrelates else "") + NAMES[rule]
        lines.append(
            f"| {name} | {config['lr']:g} | {config.get('decorrelate', '–')} | {config['epochs']} | "
            f"{len(members)} | {_told(errors)} | {_told(scaled)} | {len(done)} of {len(members)} |"
        )
        if errors:
            found[key] = summarize(errors).mean
    trivial = next(
        (run.result["trivial"] for group in groups.values() for run in group if run.result), {}
    )
    for name, error in trivial.items():
        lines.append(f"| *{name}* | – | – | – | – | {error:.3g} | – | – |")
    told = []
    if ("tbptt", False) in found:
        base = found["tbptt", False]
        told = [
            f"{NAMES[rule]} {found[rule, False] / base:.2f}×"
            for rule in ("anp", "np", "wp", "bptt", "rflo")
            if (rule, False) in found
        ]
    if told:
        lines += ["", "Test MSE relative to one-step BP: " + ", ".join(told) + "."]
    return "\n".join(lines) + "\n"


def _told(values: list[float]) -> str:
    if not values:
        return "–"
    summary: Summary = summarize(values)
    text = f"{summary.mean:.3g}"
    if summary.sd is not None and summary.interval is not None:
        low, high = summary.interval
        text += f" ± {summary.sd:.2g} [{low:.3g}, {high:.3g}]"
    return text


if __name__ == "__main__":
    main()
