// Signals back through time by what a trace keeps of each unit's own past: elementwise, no matrix.
#pragma once

#include "backward.h"

namespace kernels {

// As `Backward`, with the reduced Jacobian in the place of the full one: the leak, and where `own` is given
// (gates, h: how much of each unit's own past state enters each of its gates) the paths through these.
// Not for the GRU with reset before, where one unit reaches itself through all others.
template <class T>
class Traced {
  public:
    Traced(const Layer<T>& layer, History<T> past, const T* signal, const T* own, T* delta)
        : layer(layer), past(past), signal(signal), own(own), delta(delta), credit(layer, past) {}

    // h (b, h): the signal at the last hidden state; replaced by the one at the initial state.
    void run(T* h) const {
        expect_writes(delta, layer.steps * layer.batch * layer.nodes());
        const double work = 8.0 * double(layer.nodes()) * double(layer.steps) * double(layer.batch);
        const Index parts = parts_of(layer.batch, layer.threads, work);
        parallel(parts, [&](Index part) {
            rows(h, layer.batch * part / parts, layer.batch * (part + 1) / parts);
        });
    }

  private:
    void rows(T* h, Index b0, Index b1) const {
        const Index size = layer.hidden, nodes = layer.nodes();
        const bool lstm = layer.cell == Cell::lstm, gru = layer.cell == Cell::gru;
        const Buffer<T> cells = zeros<T>((b1 - b0) * size);
        const Buffer<T> scratch(padded<T>(size));
        for (Index t = layer.steps; t-- > 0;)
            for (Index b = b0; b < b1; ++b) {
                const Index row = t * layer.batch + b;
                T *at_h = h + b * size, *out = delta + row * nodes;
                T* behind = gru ? scratch.get() : nullptr;
                if (signal) add(signal + row * size, at_h);
                credit.row(row, 0, size, at_h, lstm ? cells.get() + (b - b0) * size : nullptr,
                           {{out, out + size, out + 2 * size, out + 3 * size}, behind});
                leak(row, at_h);
                for (Index gate = 0; own && gate < gates_of(layer.cell); ++gate)
                    through(gru && gate == 2 ? behind : out + gate * size, own + gate * size, at_h);
            }
    }

    void add(const T* from, T* to) const {
        each_vector<T>(layer.hidden, [&](Index j, auto part) {
            store(to + j, load(to + j, part) + load(from + j, part), part);
        });
    }
    void through(const T* at_node, const T* weight, T* to) const {
        each_vector<T>(layer.hidden, [&](Index j, auto part) {
            store(to + j, fma(load(at_node + j, part), load(weight + j, part), load(to + j, part)), part);
        });
    }
    // What of the signal at h_t reaches h_{t-1} past all weights; the LSTM's goes through c.
    void leak(Index row, T* at_h) const {
        const T* update = past.gates + row * layer.nodes() + layer.hidden;
        each_vector<T>(layer.hidden, [&](Index j, auto part) {
            Vec<T> kept = broadcast<T>(0);
            if (layer.cell == Cell::rnn) kept = broadcast<T>(T(1) - layer.gain);
            if (layer.cell == Cell::gru) kept = load(update + j, part);
            store(at_h + j, load(at_h + j, part) * kept, part);
        });
    }

    const Layer<T>& layer;
    const History<T> past;
    const T* const signal;
    const T* const own;
    T* const delta;
    const Credit<T> credit;
};

}  // namespace kernels
