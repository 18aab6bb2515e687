// One step of a cell for a few rows: products with packed weights, then gates and states.
//
// Whoever runs a sequence (`Forward`, `Perturbed`) keeps the states between the steps and says what of a step is
// to be written down.
#pragma once

#include <vector>

#include "activations.h"
#include "layer.h"

namespace kernels {

// Nodes [first, first + count) of a layer, computed together from the input and the state.
template <class T>
struct Section {
    Section(const Layer<T>& layer, Index first, Index count, bool sees_hidden_bias)
        : first(first), sees_hidden_bias(sees_hidden_bias), weights(layer.inputs + layer.hidden, count),
          bias(padded<T>(count)) {}

    void add_biases(const Layer<T>& layer) {
        for (Index j = 0; j < padded<T>(weights.n); ++j) {
            T sum = 0;
            if (j < weights.n && layer.b_ih) sum += layer.b_ih[first + j];
            if (j < weights.n && layer.b_hh && sees_hidden_bias) sum += layer.b_hh[first + j];
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
    const bool sees_hidden_bias;
    Packed<T> weights;  // of the input, then of the state
    Buffer<T> bias;
};

// What the rows carry from step to step, padded<T>(hidden) apart: h, c of the LSTM, and, within a step, r * h of the
// GRU with reset before.
template <class T>
struct Carried {
    T *h, *c, *gated;
};

// Noise on the nodes, `by` times rows of all nodes without gaps; none if `at` is null.
template <class T>
struct StepNoise {
    const T* at;
    T by;
};

// What the inputs bring to a step: x itself, or, with x of no columns, what `CellStep::enter` has made of it, one row
// after another.
template <class T>
struct Entering {
    Operand<T> x;
    const T *pre = nullptr, *candidate = nullptr;
};

// Further along an array, if there is one.
template <class T>
T* along(T* at, Index n) {
    return at ? at + n : nullptr;
}

// Where a row of a step is written down: all that a `History` holds.
template <class T>
struct WholeOut {
    static constexpr bool keeps_gates = true;
    T *h, *c, *gates, *auxiliary;

    WholeOut row(Index r, Index hidden, Index nodes) const {
        return {h + r * hidden, along(c, r * hidden), along(gates, r * nodes), along(auxiliary, r * hidden)};
    }
    template <class P>
    void pre(Index, Vec<T>, P) const {}
    template <class P>
    void gate(Index node, Vec<T> v, P part) const { store(gates + node, v, part); }
    template <class P>
    void reset(Index j, Vec<T> v, P part) const { store(gates + j, v, part); }
    template <class P>
    void entered(Index j, Vec<T> v, P part) const { store(auxiliary + j, v, part); }
    template <class P>
    void behind(Index j, Vec<T> v, P part) const { store(auxiliary + j, v, part); }
    template <class P>
    void state(Index j, Vec<T> v, P part) const { store(h + j, v, part); }
    template <class P>
    void memory(Index j, Vec<T> v, P part) const { store(c + j, v, part); }
};

// Or what somebody will read, the others null: the state, pre-activations with their noise, and of a GRU r (reset
// after) or r * h (before).
template <class T>
struct SomeOut {
    static constexpr bool keeps_gates = false;
    T *h, *all, *gated;

    SomeOut row(Index r, Index hidden, Index nodes) const {
        return {along(h, r * hidden), along(all, r * nodes), along(gated, r * hidden)};
    }
    template <class P>
    void pre(Index node, Vec<T> v, P part) const {
        if (all) store(all + node, v, part);
    }
    template <class P>
    void gate(Index, Vec<T>, P) const {}
    template <class P>
    void reset(Index j, Vec<T> v, P part) const { entered(j, v, part); }
    template <class P>
    void entered(Index j, Vec<T> v, P part) const {
        if (gated) store(gated + j, v, part);
    }
    template <class P>
    void behind(Index, Vec<T>, P) const {}
    template <class P>
    void state(Index j, Vec<T> v, P part) const {
        if (h) store(h + j, v, part);
    }
    template <class P>
    void memory(Index, Vec<T>, P) const {}
};

// The state h of LSTM units from their pre-activations, and c, which moves on. With e. = 1 + exp(-a.), so that
// sigma(a.) = 1 / e., and tanh ag = n / d, five divisions become two:
//     f c + i g = (c ei d + n ef) / (ei d ef)
template <class T>
inline Vec<T> lstm_unit(Vec<T> ai, Vec<T> af, Vec<T> ag, Vec<T> ao, Vec<T>& c) {
    constexpr T limit = ExpConstants<T>::limit / 3;  // a product of three is finite
    const Vec<T> ei = logistic_divisor<T>(ai, limit), ef = logistic_divisor<T>(af, limit);
    const Quotient<T> g = tanh_quotient<T>(ag);
    const Vec<T> under = ei * g.under;
    c = fma(c, under, g.over * ef) / (under * ef);
    const Quotient<T> squashed = tanh_quotient<T>(c);
    return squashed.over / (squashed.under * logistic_divisor<T>(ao, limit));
}

template <class T>
class CellStep {
  public:
    // Pre-activations of as many rows as come at once.
    struct Scratch {
        Buffer<T> pre, candidate, behind;
    };

    explicit CellStep(const Layer<T>& layer) : layer(layer), hidden_bias(padded<T>(layer.hidden)) {
        const Index size = layer.hidden;
        if (is_gru(layer.cell)) {
            sections.emplace_back(layer, 0, 2 * size, true);
            sections.emplace_back(layer, 2 * size, size, layer.cell == Cell::gru_reset_before);
        } else {
            sections.emplace_back(layer, 0, layer.nodes(), true);
        }
    }

    // Read the weights: once, or again whenever they have changed.
    void pack() {
        const Index size = layer.hidden;
        for (Section<T>& section : sections) section.add_biases(layer);
        for (Index j = 0; j < padded<T>(size); ++j)
            hidden_bias.get()[j] =
                layer.cell == Cell::gru && layer.b_hh && j < size ? layer.b_hh[2 * size + j] : T(0);
        const double weights = double(layer.nodes()) * double(layer.inputs + layer.hidden);
        const Index packers = parts_of(layer.threads, layer.threads, weights);
        parallel(packers, [&](Index part) {
            for (Section<T>& section : sections) section.pack(layer, part, packers);
        });
    }

    Scratch scratch(Index rows) const {
        const Index wide = padded<T>(sections.front().weights.n), narrow = padded<T>(layer.hidden);
        const Index gru = is_gru(layer.cell) ? rows * narrow : 0;
        return {Buffer<T>(rows * wide), Buffer<T>(gru), Buffer<T>(gru)};
    }

    // The products of the inputs of n rows with their weights, biases included, for several runs that see the same.
    Entering<T> enter(Index n, const Operand<T>& x, const Scratch& room) const {
        const Section<T>&first = sections.front(), &last = sections.back();
        const Operand<T> none{nullptr, 0, 0, 0};
        T *pre = room.pre.get(), *candidate = room.candidate.get();
        multiply(first.weights, 0, n, x, none, first.bias.get(), 0, pre, padded<T>(first.weights.n));
        if (is_gru(layer.cell))
            multiply(last.weights, 0, n, x, none, last.bias.get(), 0, candidate, padded<T>(layer.hidden));
        return {none, pre, candidate};
    }

    // n rows; from_zero: all states are zero.
    template <class Out>
    void operator()(Index n, const Entering<T>& entering, bool from_zero, const Carried<T>& carried,
                    const StepNoise<T>& noise, const Out& out, const Scratch& scratch) const {
        const Section<T>&first = sections.front(), &last = sections.back();
        const Index ld = padded<T>(layer.hidden), states = from_zero ? 0 : layer.hidden;
        const Index wide = padded<T>(first.weights.n);
        const bool ready = entering.pre;  // and the weights of the inputs are done with
        const Index begin = ready ? layer.inputs : 0;
        const Operand<T>& x = entering.x;
        const Operand<T> h{carried.h, ld, 1, states}, gated{carried.gated, ld, 1, states}, none{nullptr, 0, 0, 0};
        T *pre = scratch.pre.get(), *candidate = scratch.candidate.get(), *behind = scratch.behind.get();
        multiply(first.weights, begin, n, x, h, ready ? entering.pre : first.bias.get(), ready ? wide : 0, pre, wide);
        switch (layer.cell) {
            case Cell::rnn:
                return rnn(n, carried, noise, out, pre, wide);
            case Cell::lstm:
                return lstm(n, carried, noise, out, pre, wide);
            case Cell::gru:
                if (!ready) multiply(last.weights, 0, n, x, none, last.bias.get(), 0, candidate, ld);
                multiply(last.weights, layer.inputs, n, h, none, hidden_bias.get(), 0, behind, ld);
                return gru_reset_after(n, carried, noise, out, pre, wide, ready ? entering.candidate : candidate,
                                       behind, ld);
            case Cell::gru_reset_before:
                reset(n, carried, noise, out, pre, wide);
                multiply(last.weights, begin, n, x, gated, ready ? entering.candidate : last.bias.get(), ready ? ld : 0,
                         candidate, ld);
                return gru_reset_before(n, carried, noise, out, pre, wide, candidate, ld);
        }
    }

  private:
    // The pre-activation of a node, its noise included.
    template <class Out, class P>
    static Vec<T> node(Vec<T> a, const StepNoise<T>& noise, const Out& out, Index node, P part) {
        if (noise.at) a = fma(load(noise.at + node, part), broadcast(noise.by), a);
        out.pre(node, a, part);
        return a;
    }

    // body(row, its noise, where it goes), row by row.
    template <class Out, class Body>
    void each_row(Index n, const StepNoise<T>& noise, const Out& out, const Body& body) const {
        const Index nodes = layer.nodes();
        for (Index r = 0; r < n; ++r)
            body(r, StepNoise<T>{along(noise.at, r * nodes), noise.by}, out.row(r, layer.hidden, nodes));
    }

    template <class Out>
    void rnn(Index n, const Carried<T>& carried, const StepNoise<T>& all_noise, const Out& all_out, const T* pre,
             Index ld) const {
        const Index size = layer.hidden;
        const T gain = layer.gain;
        each_row(n, all_noise, all_out, [&](Index r, StepNoise<T> noise, Out out) {
            const T* a = pre + r * ld;
            T* own = carried.h + r * padded<T>(size);
            each_vector<T>(size, [&](Index j, auto part) {
                Vec<T> y = tanh<T>(node(load(a + j, part), noise, out, j, part));
                if (gain != T(1)) {
                    out.gate(j, y, part);
                    const Vec<T> old = load(own + j);
                    y = fma(y - old, broadcast(gain), old);
                }
                store(own + j, y);
                out.state(j, y, part);
            });
        });
    }

    template <class Out>
    void lstm(Index n, const Carried<T>& carried, const StepNoise<T>& all_noise, const Out& all_out, const T* pre,
              Index ld) const {
        const Index size = layer.hidden;
        each_row(n, all_noise, all_out, [&](Index r, StepNoise<T> noise, Out out) {
            const T* a = pre + r * ld;
            T *own_h = carried.h + r * padded<T>(size), *own_c = carried.c + r * padded<T>(size);
            each_vector<T>(size, [&](Index j, auto part) {
                const Index fj = size + j, gj = 2 * size + j, oj = 3 * size + j;
                const Vec<T> ai = node(load(a + j, part), noise, out, j, part);
                const Vec<T> af = node(load(a + fj, part), noise, out, fj, part);
                const Vec<T> ag = node(load(a + gj, part), noise, out, gj, part);
                const Vec<T> ao = node(load(a + oj, part), noise, out, oj, part);
                Vec<T> cell = load(own_c + j), hidden;
                if constexpr (Out::keeps_gates) {
                    const Vec<T> i = sigmoid<T>(ai), f = sigmoid<T>(af), g = tanh<T>(ag), o = sigmoid<T>(ao);
                    cell = fma(f, cell, i * g);
                    const Vec<T> squashed = tanh<T>(cell);
                    hidden = o * squashed;
                    out.gate(j, i, part);
                    out.gate(fj, f, part);
                    out.gate(gj, g, part);
                    out.gate(oj, o, part);
                    out.behind(j, squashed, part);
                } else {
                    hidden = lstm_unit<T>(ai, af, ag, ao, cell);
                }
                store(own_c + j, cell);
                store(own_h + j, hidden);
                out.memory(j, cell, part);
                out.state(j, hidden, part);
            });
        });
    }

    template <class Out>
    void gru_reset_after(Index n, const Carried<T>& carried, const StepNoise<T>& all_noise, const Out& all_out,
                         const T* pre, Index ld, const T* candidates, const T* behinds, Index ldn) const {
        const Index size = layer.hidden;
        each_row(n, all_noise, all_out, [&](Index k, StepNoise<T> noise, Out out) {
            const T *a = pre + k * ld, *candidate = candidates + k * ldn, *behind = behinds + k * ldn;
            T* own = carried.h + k * ldn;
            each_vector<T>(size, [&](Index j, auto part) {
                const Index zj = size + j, nj = 2 * size + j;
                const Vec<T> r = sigmoid<T>(node(load(a + j, part), noise, out, j, part));
                const Vec<T> z = sigmoid<T>(node(load(a + zj, part), noise, out, zj, part));
                const Vec<T> gated = load(behind + j, part);
                const Vec<T> c = tanh<T>(node(fma(r, gated, load(candidate + j, part)), noise, out, nj, part));
                out.reset(j, r, part);
                out.gate(zj, z, part);
                out.gate(nj, c, part);
                out.behind(j, gated, part);
                const Vec<T> hidden = fma(z, load(own + j) - c, c);
                store(own + j, hidden);
                out.state(j, hidden, part);
            });
        });
    }

    template <class Out>
    void reset(Index n, const Carried<T>& carried, const StepNoise<T>& all_noise, const Out& all_out, const T* pre,
               Index ld) const {
        const Index size = layer.hidden, ldh = padded<T>(size);
        each_row(n, all_noise, all_out, [&](Index k, StepNoise<T> noise, Out out) {
            const T *a = pre + k * ld, *h = carried.h + k * ldh;
            T* gated = carried.gated + k * ldh;
            each_vector<T>(size, [&](Index j, auto part) {
                const Vec<T> r = sigmoid<T>(node(load(a + j, part), noise, out, j, part));
                const Vec<T> entered = r * load(h + j);
                store(gated + j, entered);
                out.gate(j, r, part);
                out.entered(j, entered, part);
            });
        });
    }

    template <class Out>
    void gru_reset_before(Index n, const Carried<T>& carried, const StepNoise<T>& all_noise, const Out& all_out,
                          const T* pre, Index ld, const T* candidates, Index ldn) const {
        const Index size = layer.hidden;
        each_row(n, all_noise, all_out, [&](Index k, StepNoise<T> noise, Out out) {
            const T *a = pre + k * ld, *candidate = candidates + k * ldn;
            T* own = carried.h + k * ldn;
            each_vector<T>(size, [&](Index j, auto part) {
                const Index zj = size + j, nj = 2 * size + j;
                const Vec<T> z = sigmoid<T>(node(load(a + zj, part), noise, out, zj, part));
                const Vec<T> c = tanh<T>(node(load(candidate + j, part), noise, out, nj, part));
                out.gate(zj, z, part);
                out.gate(nj, c, part);
                const Vec<T> hidden = fma(z, load(own + j) - c, c);
                store(own + j, hidden);
                out.state(j, hidden, part);
            });
        });
    }

    const Layer<T> layer;
    std::vector<Section<T>> sections;
    Buffer<T> hidden_bias;  // b_hn of the GRU with reset after: it stands behind the reset gate
};

}  // namespace kernels
