// The forward scan. Each thread carries its own batch rows through all time steps and meets no other.
#pragma once

#include "cell_step.h"

namespace kernels {

template <class T>
class Forward {
  public:
    Forward(const Layer<T>& layer, const T* inputs, const T* noise, History<T> out)
        : layer(layer), inputs(inputs), noise(noise), out(out), step(layer) {}

    // From an initial state, or from zero where out.from_zero says so.
    void run(const T* h0, const T* c0) {
        out.expect_all_writes(layer);
        step.pack();
        const double weights = double(layer.nodes()) * double(layer.inputs + layer.hidden);
        const Index parts = parts_of(layer.batch, layer.threads,
                                     weights * double(layer.steps) * double(layer.batch));
        parallel(parts, [&](Index part) {
            rows(h0, c0, layer.batch * part / parts, layer.batch * (part + 1) / parts);
        });
    }

  private:
    // The states are carried in rows of the thread's own. The history is only written: its rows share cache lines
    // with those of other threads, and reading them back would wait for these.
    void rows(const T* h0, const T* c0, Index b0, Index b1) {
        const Index size = layer.hidden, nodes = layer.nodes(), n = b1 - b0, ld = padded<T>(size);
        const Buffer<T> state(n * ld), cell_state(n * ld), gated_state(n * ld);
        const Carried<T> carried{state.get(), cell_state.get(), gated_state.get()};
        const auto scratch = step.scratch(n);
        begin(h0, out.h, b0, n, carried.h);
        if (layer.cell == Cell::lstm) begin(c0, out.c, b0, n, carried.c);
        for (Index t = 0; t < layer.steps; ++t) {
            const Index row = t * layer.batch + b0, after = (row + layer.batch) * size;
            const WholeOut<T> made{out.h + after, along(out.c, after), along(out.gates, row * nodes),
                                   along(out.auxiliary, row * size)};
            step(n, {{inputs + row * layer.inputs, layer.inputs, 1, layer.inputs}}, t == 0 && out.from_zero, carried,
                 {along(noise, row * nodes), T(1)}, made, scratch);
        }
    }

    void begin(const T* start, T* history, Index b0, Index n, T* carried) const {
        const Index size = layer.hidden;
        if (out.from_zero) {
            std::memset(history + b0 * size, 0, std::size_t(n * size) * sizeof(T));
            std::memset(carried, 0, std::size_t(n * padded<T>(size)) * sizeof(T));
            return;
        }
        std::memcpy(history + b0 * size, start + b0 * size, std::size_t(n * size) * sizeof(T));
        for (Index r = 0; r < n; ++r)
            std::memcpy(carried + r * padded<T>(size), start + (b0 + r) * size, std::size_t(size) * sizeof(T));
    }

    const Layer<T>& layer;
    const T *inputs, *noise;
    const History<T> out;
    CellStep<T> step;
};

}  // namespace kernels
