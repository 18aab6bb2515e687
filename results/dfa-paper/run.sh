#!/usr/bin/env bash
# Table 1 of the DFA paper on ECG200, Strawberry and Libras, with the hyperparameters of its appendix B:
# DFA and BPTT, tanh RNN and GRU (reset before, the paper's cell, for both rules), 5 seeds.
# A run that is finished is not repeated and one that was stopped goes on, so this can be run again.
#
#   TIMELOCAL_DATA=<folder of data sets> JOBS=<runs at a time> results/dfa-paper/run.sh
set -euo pipefail

runs() { # dataset cell rule hidden lr batch epochs: one command a seed
    for seed in 0 1 2 3 4; do
        echo "train --dataset $1 --cell $2 --rule $3 --hidden $4 --lr $5 --batch $6 --epochs $7" \
            "--clip 2 --seeds $seed, --threads 1 --out results/dfa-paper/runs"
    done
}

{
    runs ecg200 rnn dfa 50 0.0005 256 500
    runs ecg200 rnn bptt 50 0.0005 256 500
    runs ecg200 gru-reset-before dfa 50 0.01 256 500
    runs ecg200 gru-reset-before bptt 50 0.0005 256 500
    runs strawberry rnn bptt 50 0.0005 256 300
    runs strawberry gru-reset-before dfa 50 0.0005 10 300
    runs strawberry gru-reset-before bptt 50 0.005 10 300
    runs libras rnn dfa 512 0.0005 10 900
    runs libras rnn bptt 512 0.0005 10 900
    runs strawberry rnn dfa 512 0.0005 100 300
    runs libras gru-reset-before dfa 512 0.0005 10 900
    runs libras gru-reset-before bptt 512 0.01 10 900
} | xargs -P "${JOBS:-1}" -L 1 timelocal
