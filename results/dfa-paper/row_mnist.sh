#!/usr/bin/env bash
# Row-MNIST, corrected DFA with Adam 5e-4, 512 units, batch 100, one feedback matrix per layer, no
# normalisation: GRU (reset before) after 3 epochs, tanh RNN after 20.
#
#   TIMELOCAL_DATA=<folder of data sets> JOBS=<runs at a time> results/dfa-paper/row_mnist.sh
set -euo pipefail

runs() { # cell epochs
    for seed in 0 1 2 3 4; do
        echo "train --dataset row-mnist --cell $1 --rule dfa --hidden 512 --lr 0.0005 --batch 100" \
            "--epochs $2 --seeds $seed, --threads 1 --out results/dfa-paper/runs"
    done
}

{
    runs gru-reset-before 3
    runs rnn 20
} | xargs -P "${JOBS:-1}" -L 1 timelocal
