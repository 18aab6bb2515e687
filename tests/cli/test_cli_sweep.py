"""`timelocal sweep`."""

from __future__ import annotations


def test_combinations_are_ranked(call, tmp_path):
    small = ("hidden=4", "epochs=1", "batch=400", "rule=rflo", "cell=rnn")
    varied = ("lr=0.03,1e-3", "rule_options.feedback=gaussian,sign")
    done = call("sweep", *varied, *small, "--engine", "in-process", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("majority class") == 4
    assert "rule_options.feedback" in done.stdout
    assert "Did you mean 'ray'" in call("sweep", "lr=1", "--engine", "rya").output
    assert "It is for --engine slurm" in call("sweep", "lr=1", "--slurm", "time=3").output
