#!/usr/bin/env bash
# Table 1 of the DFA paper on ECG200, Strawberry and Libras, with the hyperparameters of its appendix B:
# DFA and BPTT, tanh RNN and GRU (reset before, the paper's cell, for both rules), 5 seeds.
# A run that is finished is not repeated and one that was stopped goes on, so this can be run again.
#
#   TIMELOCAL_DATA=<folder of data sets> results/dfa-paper/run.sh [OUT]
set -euo pipefail
out=${1:-runs/dfa-paper}

train() { # dataset cell rule hidden lr batch epochs
    timelocal train --dataset "$1" --cell "$2" --rule "$3" --hidden "$4" --lr "$5" --batch "$6" \
        --epochs "$7" --optimizer adam --clip 2 --seeds 5 --threads 1 --out "$out"
}

ecg200() {
    train ecg200 rnn dfa 50 0.0005 256 500
    train ecg200 rnn bptt 50 0.0005 256 500
    train ecg200 gru-reset-before dfa 50 0.01 256 500
    train ecg200 gru-reset-before bptt 50 0.0005 256 500
}

strawberry() {
    train strawberry rnn dfa 512 0.0005 100 300
    train strawberry rnn bptt 50 0.0005 256 300
    train strawberry gru-reset-before dfa 50 0.0005 10 300
    train strawberry gru-reset-before bptt 50 0.005 10 300
}

libras() {
    train libras rnn dfa 512 0.0005 10 900
    train libras rnn bptt 512 0.0005 10 900
    train libras gru-reset-before dfa 512 0.0005 10 900
    train libras gru-reset-before bptt 512 0.01 10 900
}

for dataset in ${DATASETS:-ecg200 strawberry libras}; do
    "$dataset"
done
