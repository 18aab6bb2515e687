// From signals at the hidden state to signals at the nodes: within one step (`Credit`, all a rule like
// DFA needs), and carried back through time (`Backward`, BPTT).
#pragma once

#include "activations.h"
#include "layer.h"

namespace kernels {

// hh^T for nodes [first, first + count): from node signals back to hidden units.
template <class T>
Packed<T> transposed(const Layer<T>& layer, Index first, Index count) {
    Packed<T> packed(count, layer.hidden);
    const double work = double(count) * double(layer.hidden);
    const Index parts = parts_of(packed.panels(), layer.threads, work);
    parallel(parts, [&](Index part) {
        packed.pack(0, count, layer.hh + first * layer.hidden, layer.hidden, packed.panels() * part / parts,
                    packed.panels() * (part + 1) / parts);
    });
    return packed;
}

template <class T>
Buffer<T> zeros(Index n) {
    Buffer<T> buffer(n);
    std::memset(buffer.get(), 0, std::size_t(n) * sizeof(T));
    return buffer;
}

// Where the node signals of one row go: one pointer per gate, in torch.nn's order. behind (or null): of the
// GRU with reset after, r * delta_n, what meets W_n behind the reset gate.
template <class T>
struct NodeSignals {
    T* gate[4];
    T* behind;
};

// State signal -> node signals of one row, t * batch + b, for hidden units [first, first + count): the local
// Jacobian of each cell. All pointers are at the first unit. Of the GRU with reset before, r is left out.
template <class T>
class Credit {
  public:
    Credit(const Layer<T>& layer, History<T> past) : layer(layer), past(past) {}

    // signal: at h. cell_signal (LSTM, or null): at c, replaced by the signal at the c before.
    void row(Index row, Index first, Index count, const T* signal, T* cell_signal,
             const NodeSignals<T>& out) const {
        switch (layer.cell) {
            case Cell::rnn:
                return rnn(row, first, count, signal, out);
            case Cell::lstm:
                return lstm(row, first, count, signal, cell_signal, out);
            case Cell::gru:
                return gru<true>(row, first, count, signal, out);
            case Cell::gru_reset_before:
                return gru<false>(row, first, count, signal, out);
        }
    }

  private:
    void rnn(Index row, Index first, Index count, const T* signal, const NodeSignals<T>& out) const {
        const T gain = layer.gain;
        const T* gates = past.gates + row * layer.hidden + first;
        each_vector<T>(count, [&](Index j, auto part) {
            const Vec<T> y = load(gates + j, part);
            const Vec<T> slope = fma(-y, y, broadcast<T>(1)) * gain;
            store(out.gate[0] + j, load(signal + j, part) * slope, part);
        });
    }

    void lstm(Index row, Index first, Index count, const T* signal, T* cell_signal,
              const NodeSignals<T>& out) const {
        const Index size = layer.hidden;
        const T* gates = past.gates + row * 4 * size + first;
        const T* c_before = past.c + row * size + first;
        const T* c_squashed = past.auxiliary + row * size + first;
        each_vector<T>(count, [&](Index j, auto part) {
            const Vec<T> i = load(gates + j, part), f = load(gates + size + j, part);
            const Vec<T> g = load(gates + 2 * size + j, part);
            const Vec<T> o = load(gates + 3 * size + j, part);
            const Vec<T> squashed = load(c_squashed + j, part);
            const Vec<T> at_h = load(signal + j, part);
            Vec<T> at_c = at_h * o * fma(-squashed, squashed, broadcast<T>(1));
            if (cell_signal) at_c += load(cell_signal + j, part);
            store(out.gate[0] + j, at_c * g * i * (T(1) - i), part);
            store(out.gate[1] + j, at_c * load(c_before + j, part) * f * (T(1) - f), part);
            store(out.gate[2] + j, at_c * i * fma(-g, g, broadcast<T>(1)), part);
            store(out.gate[3] + j, at_h * squashed * o * (T(1) - o), part);
            if (cell_signal) store(cell_signal + j, at_c * f, part);
        });
    }

    template <bool reset_after>
    void gru(Index row, Index first, Index count, const T* signal, const NodeSignals<T>& out) const {
        const Index size = layer.hidden;
        const T* gates = past.gates + row * 3 * size + first;
        const T* before = past.h + row * size + first;
        const T* linear = past.auxiliary + row * size + first;
        each_vector<T>(count, [&](Index j, auto part) {
            const Vec<T> z = load(gates + size + j, part), c = load(gates + 2 * size + j, part);
            const Vec<T> at_h = load(signal + j, part) * (T(1) - z);
            const Vec<T> at_n = at_h * fma(-c, c, broadcast<T>(1));
            store(out.gate[1] + j, at_h * z * (load(before + j, part) - c), part);
            store(out.gate[2] + j, at_n, part);
            if constexpr (reset_after) {
                const Vec<T> r = load(gates + j, part);
                store(out.gate[0] + j, at_n * load(linear + j, part) * r * (T(1) - r), part);
                if (out.behind) store(out.behind + j, at_n * r, part);
            }
        });
    }

    const Layer<T>& layer;
    const History<T> past;
};

// The node signals of whole rows.
template <class T>
class CreditRows {
  public:
    CreditRows(const Layer<T>& layer, History<T> past)
        : layer(layer), past(past), credit(layer, past),
          candidate(layer.cell == Cell::gru_reset_before
                        ? transposed(layer, 2 * layer.hidden, layer.hidden)
                        : Packed<T>(0, 0)),
          nothing(zeros<T>(padded<T>(layer.hidden))) {}

    // delta (n, g) of n rows of one step, from flat row t * batch + b on; signals are ld apart. gated (GRU with
    // reset before): receives W_n^T delta_n, rows padded<T>(hidden) apart.
    void rows(Index row, Index n, const T* signal, Index ld, T* cell_signal, T* gated, T* delta) const {
        const Index size = layer.hidden;
        for (Index k = 0; k < n; ++k) {
            T* out = delta + k * layer.nodes();
            credit.row(row + k, 0, size, signal + k * ld, cell_signal ? cell_signal + k * ld : nullptr,
                       {{out, out + size, out + 2 * size, out + 3 * size}, nullptr});
        }
        if (layer.cell == Cell::gru_reset_before) reset(row, n, gated, delta);
    }

  private:
    void reset(Index row, Index n, T* gated, T* delta) const {
        const Index size = layer.hidden, ld = padded<T>(size);
        multiply<T>(candidate, 0, n, {delta + 2 * size, 3 * size, 1, size}, {}, nothing.get(),
                    0, gated, ld);
        for (Index k = 0; k < n; ++k, ++row, gated += ld, delta += 3 * size)
            each_vector<T>(size, [&](Index j, auto part) {
                const Vec<T> r = load(past.gates + row * 3 * size + j, part);
                const Vec<T> before = load(past.h + row * size + j, part);
                store(delta + j, load(gated + j, part) * before * r * (T(1) - r), part);
            });
    }

    const Layer<T>& layer;
    const History<T> past;
    const Credit<T> credit;
    const Packed<T> candidate;  // W_n^T of the GRU with reset before

  public:
    const Buffer<T> nothing;  // a row of zeros
};

// A signal at every h_t: (t, b, h), or one (b, h) for all t when step_stride is 0. At steps at or beyond
// lengths[b] (null: none are) there is none.
template <class T>
struct StateSignal {
    const T* at;
    Index step_stride;
    const std::int64_t* lengths;
};

// delta (t, b, g) from a signal at every h_t. Nothing here is sequential: threads share time.
template <class T>
void credit_all(const Layer<T>& layer, History<T> past, StateSignal<T> signal, T* delta) {
    const CreditRows<T> credit(layer, past);
    const Index size = layer.hidden, nodes = layer.nodes(), batch = layer.batch;
    expect_writes(delta, layer.steps * batch * nodes);
    constexpr Index block = 64;  // rows at a time: the scratch stays in cache
    const double work = double(layer.steps) * double(batch) * double(nodes) *
                        (layer.cell == Cell::gru_reset_before ? double(size) : 8.0);
    const Index parts = parts_of(layer.steps, layer.threads, work);
    parallel(parts, [&](Index part) {
        const Buffer<T> gated(block * padded<T>(size));
        const Index last = layer.steps * (part + 1) / parts;
        for (Index t = layer.steps * part / parts; t < last; ++t)
            for (Index b = 0; b < batch; b += block) {
                const Index n = batch - b < block ? batch - b : block;
                credit.rows(t * batch + b, n, signal.at + t * signal.step_stride + b * size, size,
                            nullptr, gated.get(), delta + (t * batch + b) * nodes);
                for (Index k = b; signal.lengths && k < b + n; ++k)
                    if (t >= signal.lengths[k])
                        std::memset(delta + (t * batch + k) * nodes, 0,
                                    std::size_t(nodes) * sizeof(T));
            }
    });
}

template <class T>
class Backward {
  public:
    Backward(const Layer<T>& layer, History<T> past, const T* signal, T* delta)
        : layer(layer), past(past), signal(signal), delta(delta), credit(layer, past),
          recurrent(transposed(layer, 0, is_gru(layer.cell) ? 2 * layer.hidden : layer.nodes())),
          candidate(layer.cell == Cell::gru ? transposed(layer, 2 * layer.hidden, layer.hidden)
                                            : Packed<T>(0, 0)) {}

    // h, c (b, h): the signals at the last state, replaced by those at the initial one.
    void run(T* h, T* c) {
        expect_writes(delta, layer.steps * layer.batch * layer.nodes());
        const double work = double(layer.nodes()) * double(layer.hidden) * double(layer.steps) *
                            double(layer.batch);
        const Index parts = parts_of(layer.batch, layer.threads, work);
        parallel(parts, [&](Index part) {
            rows(h, c, layer.batch * part / parts, layer.batch * (part + 1) / parts);
        });
    }

  private:
    void rows(T* h, T* c, Index b0, Index b1) {
        const Index size = layer.hidden, nodes = layer.nodes(), n = b1 - b0, ld = padded<T>(size);
        // Node signals are made here and then copied: their rows in `delta` share cache lines with those of
        // other threads, and reading them back would wait for these.
        const Buffer<T> carried(n * ld), carried_cell(n * ld), scratch(n * ld), node_signals(n * nodes);
        T *at_h = carried.get(), *gated = scratch.get(), *own = node_signals.get();
        T* at_c = layer.cell == Cell::lstm ? carried_cell.get() : nullptr;
        copy(n, h + b0 * size, size, at_h, ld);
        if (at_c) copy(n, c + b0 * size, size, at_c, ld);
        const bool restarts = layer.cell == Cell::lstm || (layer.cell == Cell::rnn && layer.gain == T(1));
        for (Index t = layer.steps; t-- > 0;) {
            const Index row = t * layer.batch + b0;
            if (signal) add(n, signal + row * size, at_h);
            credit.rows(row, n, at_h, ld, at_c, gated, own);
            std::memcpy(delta + row * nodes, own, std::size_t(n * nodes) * sizeof(T));
            if (!restarts) pass_by(row, n, own, at_h, gated);
            const T* start = restarts ? credit.nothing.get() : at_h;
            multiply<T>(recurrent, 0, n, {own, nodes, 1, recurrent.k}, {}, start,
                        restarts ? 0 : ld, at_h, ld);
            if (layer.cell == Cell::gru)
                multiply<T>(candidate, 0, n, {gated, ld, 1, size}, {}, at_h, ld, at_h, ld);
        }
        copy(n, at_h, ld, h + b0 * size, size);
        if (at_c) copy(n, at_c, ld, c + b0 * size, size);
    }

    static void copy_row(Index size, const T* from, T* to) {
        std::memcpy(to, from, std::size_t(size) * sizeof(T));
    }
    void copy(Index n, const T* from, Index from_stride, T* to, Index to_stride) const {
        for (Index k = 0; k < n; ++k)
            copy_row(layer.hidden, from + k * from_stride, to + k * to_stride);
    }
    void add(Index n, const T* from, T* to) const {
        const Index size = layer.hidden;
        for (Index k = 0; k < n; ++k, from += size, to += padded<T>(size))
            each_vector<T>(size, [&](Index j, auto part) {
                store(to + j, load(to + j, part) + load(from + j, part), part);
            });
    }

    // The signal that reaches h_{t-1} past the matrix, in place of the one at h_t: through the leak, through
    // the update gate, and through the reset gate before the matrix. For the GRU with reset after, `gated`
    // receives r * delta_n, what reaches W_n; for the one with reset before it holds W_n^T delta_n.
    void pass_by(Index row, Index n, const T* own, T* at_h, T* gated) const {
        const Index size = layer.hidden, ld = padded<T>(size);
        for (Index k = 0; k < n; ++k, ++row, own += layer.nodes(), at_h += ld, gated += ld) {
            const T* gates = past.gates + row * layer.nodes();
            const T* at_n = own + 2 * size;
            each_vector<T>(size, [&](Index j, auto part) {
                const Vec<T> g = load(at_h + j, part);
                if (layer.cell == Cell::rnn) {
                    store(at_h + j, g * (T(1) - layer.gain), part);
                    return;
                }
                const Vec<T> r = load(gates + j, part);
                const Vec<T> kept = g * load(gates + size + j, part);
                if (layer.cell == Cell::gru) {
                    store(gated + j, r * load(at_n + j, part), part);
                    store(at_h + j, kept, part);
                } else {
                    store(at_h + j, fma(r, load(gated + j, part), kept), part);
                }
            });
        }
    }

    const Layer<T>& layer;
    const History<T> past;
    const T* const signal;
    T* const delta;
    const CreditRows<T> credit;
    const Packed<T> recurrent, candidate;
};

}  // namespace kernels
