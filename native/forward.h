// The forward scan. Each thread carries its own batch rows through all time steps and meets no other.
#pragma once

#include <vector>

#include "activations.h"
#include "layer.h"

namespace kernels {

// Nodes [first, first + count) of a layer, computed together from the input and the state.
template <class T>
struct Section {
    Section(const Layer<T>& layer, Index first, Index count, bool hidden_bias)
        : first(first), weights(layer.inputs + layer.hidden, count), bias(padded<T>(count)) {
        for (Index j = 0; j < padded<T>(count); ++j) {
            T sum = 0;
            if (j < count && layer.b_ih) sum += layer.b_ih[first + j];
            if (j < count && layer.b_hh && hidden_bias) sum += layer.b_hh[first + j];
            bias.get()[j] = sum;
        }
    }

    void pack(const Layer<T>& layer, Index part, Index parts) {
        const Index n = weights.panels(), p0 = n * part / parts, p1 = n * (part + 1) / parts;
        const Index inputs = layer.inputs, hidden = layer.hidden;
        weights.pack_transposed(0, inputs, layer.ih + first * inputs, inputs, p0, p1);
        weights.pack_transposed(inputs, hidden, layer.hh + first * hidden, hidden, p0, p1);
    }

    const Index first;
    Packed<T> weights;  // of the input, then of the state
    Buffer<T> bias;
};

template <class T>
class Forward {
  public:
    Forward(const Layer<T>& layer, const T* inputs, const T* noise, History<T> out)
        : layer(layer), inputs(inputs), noise(noise), out(out), hidden_bias(padded<T>(layer.hidden)) {
        const Index size = layer.hidden;
        if (is_gru(layer.cell)) {
            sections.emplace_back(layer, 0, 2 * size, true);
            sections.emplace_back(layer, 2 * size, size, layer.cell == Cell::gru_reset_before);
        } else {
            sections.emplace_back(layer, 0, layer.nodes(), true);
        }
        for (Index j = 0; j < padded<T>(size); ++j)
            hidden_bias.get()[j] =
                layer.cell == Cell::gru && layer.b_hh && j < size ? layer.b_hh[2 * size + j] : T(0);
    }

    // From an initial state, or from zero where out.from_zero says so.
    void run(const T* h0, const T* c0) {
        const double weights = double(layer.nodes()) * double(layer.inputs + layer.hidden);
        const Index packers = parts_of(layer.threads, layer.threads, weights);
        parallel(packers, [&](Index part) {
            for (Section<T>& section : sections) section.pack(layer, part, packers);
        });
        const Index parts = parts_of(layer.batch, layer.threads,
                                     weights * double(layer.steps) * double(layer.batch));
        parallel(parts, [&](Index part) {
            rows(h0, c0, layer.batch * part / parts, layer.batch * (part + 1) / parts);
        });
    }

  private:
    // What one thread carries through time, padded rows of its own. The history is only written: its rows
    // share cache lines with those of other threads, and reading them back would wait for these.
    struct Carried {
        T *h, *c, *gated;  // the state; r * h of the GRU with reset before
        Index ld;
    };

    void rows(const T* h0, const T* c0, Index b0, Index b1) {
        const Index size = layer.hidden, n = b1 - b0, ld = padded<T>(size);
        const Section<T>& last = sections.back();
        const Section<T>& section = sections.front();
        const Index wide = padded<T>(section.weights.n), narrow = padded<T>(last.weights.n);
        const Buffer<T> first_sum(n * wide), second_sum(n * narrow), hidden_sum(n * narrow);
        const Buffer<T> state(n * ld), cell_state(n * ld), gated_state(n * ld);
        const Carried carried{state.get(), cell_state.get(), gated_state.get(), ld};
        begin(h0, out.h, b0, n, carried.h);
        if (layer.cell == Cell::lstm) begin(c0, out.c, b0, n, carried.c);
        T *pre = first_sum.get(), *candidate = second_sum.get(), *behind = hidden_sum.get();
        const Operand<T> none{nullptr, 0, 0, 0};
        for (Index t = 0; t < layer.steps; ++t) {
            const Index entering = t == 0 && out.from_zero ? 0 : size;
            const Operand<T> h{carried.h, ld, 1, entering}, gated{carried.gated, ld, 1, entering};
            const Index row = t * layer.batch + b0;
            const Operand<T> x{inputs + row * layer.inputs, layer.inputs, 1, layer.inputs};
            multiply(section.weights, 0, n, x, h, section.bias.get(), 0, pre, wide);
            switch (layer.cell) {
                case Cell::rnn:
                    rnn(row, n, carried, pre, wide);
                    break;
                case Cell::lstm:
                    lstm(row, n, carried, pre, wide);
                    break;
                case Cell::gru:
                    multiply(last.weights, 0, n, x, none, last.bias.get(), 0, candidate, narrow);
                    multiply(last.weights, layer.inputs, n, h, none, hidden_bias.get(), 0, behind,
                             narrow);
                    gru_reset_after(row, n, carried, pre, wide, candidate, behind, narrow);
                    break;
                case Cell::gru_reset_before:
                    reset(row, n, carried, pre, wide);
                    multiply(last.weights, 0, n, x, gated, last.bias.get(), 0, candidate, narrow);
                    gru_reset_before(row, n, carried, pre, wide, candidate, narrow);
                    break;
            }
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

    // a pre-activation, with the noise on that node when there is one
    template <class P>
    Vec<T> node(const T* sum, Index row, Index node, P part) const {
        const Vec<T> a = load(sum, part);
        return noise ? a + load(noise + row * layer.nodes() + node, part) : a;
    }

    void rnn(Index row, Index n, Carried carried, const T* pre, Index ld) const {
        const Index size = layer.hidden, batch = layer.batch;
        const T gain = layer.gain;
        for (Index r = 0; r < n; ++r, ++row, pre += ld) {
            T *h = out.h + (row + batch) * size, *gates = out.gates + row * size;
            T* own = carried.h + r * carried.ld;
            each_vector<T>(size, [&](Index j, auto part) {
                Vec<T> y = tanh<T>(node(pre + j, row, j, part));
                if (gain != T(1)) {
                    store(gates + j, y, part);
                    const Vec<T> old = load(own + j);
                    y = fma(y - old, broadcast(gain), old);
                }
                store(own + j, y);
                store(h + j, y, part);
            });
        }
    }

    void lstm(Index row, Index n, Carried carried, const T* pre, Index ld) const {
        const Index size = layer.hidden, batch = layer.batch;
        for (Index r = 0; r < n; ++r, ++row, pre += ld) {
            T* gates = out.gates + row * 4 * size;
            T *h = out.h + (row + batch) * size, *c = out.c + (row + batch) * size;
            T *own_h = carried.h + r * carried.ld, *own_c = carried.c + r * carried.ld;
            each_vector<T>(size, [&](Index j, auto part) {
                const Index fj = size + j, gj = 2 * size + j, oj = 3 * size + j;
                const Vec<T> i = sigmoid<T>(node(pre + j, row, j, part));
                const Vec<T> f = sigmoid<T>(node(pre + fj, row, fj, part));
                const Vec<T> g = tanh<T>(node(pre + gj, row, gj, part));
                const Vec<T> o = sigmoid<T>(node(pre + oj, row, oj, part));
                const Vec<T> cell = fma(f, load(own_c + j), i * g);
                const Vec<T> squashed = tanh<T>(cell);
                const Vec<T> hidden = o * squashed;
                store(own_c + j, cell);
                store(own_h + j, hidden);
                store(gates + j, i, part);
                store(gates + fj, f, part);
                store(gates + gj, g, part);
                store(gates + oj, o, part);
                store(c + j, cell, part);
                store(out.auxiliary + row * size + j, squashed, part);
                store(h + j, hidden, part);
            });
        }
    }

    void gru_reset_after(Index row, Index n, Carried carried, const T* pre, Index ld,
                         const T* candidate, const T* behind, Index ldn) const {
        const Index size = layer.hidden, batch = layer.batch;
        for (Index k = 0; k < n; ++k, ++row, pre += ld, candidate += ldn, behind += ldn) {
            T* gates = out.gates + row * 3 * size;
            T *h = out.h + (row + batch) * size, *own = carried.h + k * carried.ld;
            each_vector<T>(size, [&](Index j, auto part) {
                const Index zj = size + j, nj = 2 * size + j;
                const Vec<T> r = sigmoid<T>(node(pre + j, row, j, part));
                const Vec<T> z = sigmoid<T>(node(pre + zj, row, zj, part));
                const Vec<T> gated = load(behind + j, part);
                const Vec<T> c = tanh<T>(fma(r, gated, node(candidate + j, row, nj, part)));
                store(gates + j, r, part);
                store(gates + zj, z, part);
                store(gates + nj, c, part);
                store(out.auxiliary + row * size + j, gated, part);
                const Vec<T> hidden = fma(z, load(own + j) - c, c);
                store(own + j, hidden);
                store(h + j, hidden, part);
            });
        }
    }

    void reset(Index row, Index n, Carried carried, const T* pre, Index ld) const {
        const Index size = layer.hidden;
        for (Index k = 0; k < n; ++k, ++row, pre += ld) {
            const T* h = carried.h + k * carried.ld;
            T* gated = carried.gated + k * carried.ld;
            each_vector<T>(size, [&](Index j, auto part) {
                const Vec<T> r = sigmoid<T>(node(pre + j, row, j, part)), entered = r * load(h + j);
                store(gated + j, entered);
                store(out.gates + row * 3 * size + j, r, part);
                store(out.auxiliary + row * size + j, entered, part);
            });
        }
    }

    void gru_reset_before(Index row, Index n, Carried carried, const T* pre, Index ld,
                          const T* candidate, Index ldn) const {
        const Index size = layer.hidden, batch = layer.batch;
        for (Index k = 0; k < n; ++k, ++row, pre += ld, candidate += ldn) {
            T* gates = out.gates + row * 3 * size;
            T *h = out.h + (row + batch) * size, *own = carried.h + k * carried.ld;
            each_vector<T>(size, [&](Index j, auto part) {
                const Index zj = size + j, nj = 2 * size + j;
                const Vec<T> z = sigmoid<T>(node(pre + zj, row, zj, part));
                const Vec<T> c = tanh<T>(node(candidate + j, row, nj, part));
                store(gates + zj, z, part);
                store(gates + nj, c, part);
                const Vec<T> hidden = fma(z, load(own + j) - c, c);
                store(own + j, hidden);
                store(h + j, hidden, part);
            });
        }
    }

    const Layer<T>& layer;
    const T *inputs, *noise;
    const History<T> out;
    std::vector<Section<T>> sections;
    Buffer<T> hidden_bias;  // b_hn of the GRU with reset after: it stands behind the reset gate
};

}  // namespace kernels
