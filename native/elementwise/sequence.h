// A layer of element-wise units over a whole sequence: forward, back through time, and learning by traces that are
// carried forward. No unit waits for another: what they do is one product for the inputs and vectors of units.
#pragma once

#include "../pages.h"
#include "../parallel.h"
#include "../rows.h"
#include "call.h"
#include "units.h"

namespace kernels {

template <class Units, class T>
class ElementwiseLayer {
  public:
    explicit ElementwiseLayer(const ElementwiseCall& call) : c(call), own{at(call.own[0]), at(call.own[1])} {}

    // h_1 ... h_T.
    void scan() const {
        const Index rows = c.steps * c.batch;
        expect_writes(at(c.states), (rows + c.batch) * wide());
        if (c.squash) expect_writes(at(c.features), (rows + c.batch) * wide());
        if (Units::keeps_gates) expect_writes(at(c.gates), rows * nodes());
        if (Units::has_auxiliary) expect_writes(at(c.auxiliary), rows * c.hidden);
        divide(double(rows) * double(nodes() * (c.inputs + 4)), [&](const Share& share) { scan_share(share); });
    }

    // Signals at the features to those at the states, back through time, S <- G + J' S, and from S to the nodes.
    void back() const {
        expect_writes(at(c.delta), c.steps * c.batch * nodes());
        divide(8.0 * double(c.steps * c.batch) * double(nodes()), [&](const Share& share) { back_share(share); });
    }

    // E <- J E + (slope (x) what entered), from the first step to the last, and the sums of G E. A thread has units of
    // its own: the sums over the batch do not depend on how many threads there are.
    void trace() const {
        const Index parts = parts_of(vectors(), c.threads, double(c.steps * c.batch) * double(nodes() * (c.inputs + 4)));
        parallel(parts, [&](Index part) {
            trace_units(vectors() * part / parts, vectors() * (part + 1) / parts);
        });
    }

  private:
    using Own = typename Units::Own;
    using Local = typename Units::Local;
    using V = Vec<T>;
    static constexpr Index G = Units::gates, S = Units::states, lanes = kLanes<T>;

    static T* at(ElementwiseCall::Address address) { return reinterpret_cast<T*>(address); }
    Index nodes() const { return G * c.hidden; }
    Index wide() const { return S * c.hidden; }
    Index vectors() const { return padded<T>(c.hidden) / lanes; }

    // body(share) in each thread: it has rows of the batch of its own and, where these are fewer than the threads, units of
    // its own. No thread has a stretch of time of its own: to join the stretches would double the work, which pays only
    // where the threads outnumber the vectors of units.
    template <class Body>
    void divide(double work, const Body& body) const {
        const Index parts = parts_of(c.batch * vectors(), c.threads, work);
        const Index rows = std::min(c.batch, parts);
        // Threads that share a row hinder each other: in less than a few tenths of a millisecond they gain nothing.
        const Index units = work < 8e6 ? 1 : std::min(vectors(), parts / rows);
        const auto one = [&](Index part) {
            const Index r = part / units, first = c.batch * r / rows, rest = c.batch * (r + 1) / rows - first;
            const Index u = part % units, from = vectors() * u / units, to = vectors() * (u + 1) / units;
            body(Share{first, rest, from * lanes, std::min(to * lanes, c.hidden)});
        };
        parallel(rows * units, one, [&] { body(Share{0, c.batch, 0, c.hidden}); });
    }

    template <class Which, Index N>
    void get(const T* from, Index j, Which which, V (&to)[N]) const {
        for (Index n = 0; n < N; ++n) to[n] = load(from + n * c.hidden + j, which);
    }
    template <class Which, Index N>
    void put(const V (&from)[N], T* to, Index j, Which which) const {
        for (Index n = 0; n < N; ++n) store(to + n * c.hidden + j, from[n], which);
    }

    // Adds the signals at the features `from` of the states at `h` to those at the states.
    template <class Which>
    void hear(const T* from, const T* h, Index j, Which which, V (&to)[S]) const {
        for (Index s = 0; s < S; ++s) {
            const V signal = load(from + s * c.hidden + j, which);
            to[s] += c.squash ? signal * slope_of_squash<T>(c.squash, load(h + s * c.hidden + j, which)) : signal;
        }
    }
    const T* after(Index row) const { return at(c.states) + (row + c.batch) * wide(); }

    static void copy(const T* from, T* to, Index count) { std::memcpy(to, from, std::size_t(count) * sizeof(T)); }

    // V and b of the share's units, those of a vector of units side by side, gate by gate. Times gamma where there is one:
    // it is the same at every step.
    void enter(const Share& share, Packed<T>& weight, T* bias) const {
        const Buffer<T> scaled(weight.n * c.inputs);
        std::memset(scaled.get(), 0, std::size_t(weight.n * c.inputs) * sizeof(T));
        std::memset(bias, 0, std::size_t(weight.n) * sizeof(T));
        T *v = scaled.get(), *b = bias;
        each_vector<T>(share.from, share.to, [&](Index j, auto which) {
            const Index count = std::min(lanes, share.to - j);
            T gamma[lanes];
            if constexpr (S == 2) store(gamma, Own(own, j, which).gamma);
            for (Index g = 0; g < G; ++g, v += lanes * c.inputs, b += lanes) {
                copy(at(c.weight) + (g * c.hidden + j) * c.inputs, v, count * c.inputs);
                if (c.bias) copy(at(c.bias) + g * c.hidden + j, b, count);
                if constexpr (S == 2)
                    for (Index k = 0; k < count; ++k) {
                        b[k] *= gamma[k];
                        for (Index i = 0; i < c.inputs; ++i) v[k * c.inputs + i] *= gamma[k];
                    }
            }
        });
        weight.pack_transposed(0, c.inputs, scaled.get(), c.inputs, 0, weight.panels());
    }

    std::vector<Own> units_of(const Share& share) const {
        std::vector<Own> units;
        each_vector<T>(share.from, share.to, [&](Index j, auto which) { units.emplace_back(own, j, which); });
        return units;
    }

    void scan_share(const Share& share) const {
        const Index n = share.rows, nodes = G * padded<T>(share.to - share.from);
        Packed<T> weight(c.inputs, nodes);
        const Buffer<T> bias(nodes);
        enter(share, weight, bias.get());
        // Where a thread has all rows, several steps are one product.
        const Index block = n == c.batch ? std::max<Index>(1, 32 / n) : 1;
        const Rows<T> drive(block * n, nodes), h(n, wide());
        for (Index r = 0; r < n; ++r)
            each_vector<T>(share.from, share.to, [&](Index j, auto which) {
                const Index row = share.first + r;
                V state[S];
                for (Index s = 0; s < S; ++s) state[s] = load(at(c.initial[s]) + row * c.hidden + j, which);
                put(state, h.row(r), j, which);
                put_states(state, row, j, which);
            });
        const std::vector<Own> units = units_of(share);
        for (Index t0 = 0; t0 < c.steps; t0 += block) {
            const Index steps = std::min(block, c.steps - t0);
            const Operand<T> x{at(c.x) + (t0 * c.batch + share.first) * c.inputs, c.inputs, 1, c.inputs},
                none{nullptr, 0, 0, 0};
            multiply(weight, 0, steps * n, x, none, bias.get(), 0, drive.begin(), nodes);
            for (Index t = 0; t < steps; ++t)
                for (Index r = 0; r < n; ++r) {
                    const Index row = (t0 + t) * c.batch + share.first + r;
                    const T* entered = drive.row(t * n + r);
                    const Own* unit = units.data();
                    each_vector<T>(share.from, share.to, [&](Index j, auto which) __attribute__((always_inline)) {
                        step_unit(*unit++, entered, h.row(r), row, j, which);
                        entered += G * lanes;
                    });
                }
        }
    }

    // The states in row `row` of the history, and their features.
    template <class Which>
    void put_states(V (&states)[S], Index row, Index j, Which which) const {
        put(states, at(c.states) + row * wide(), j, which);
        if (!c.squash) return;
        for (V& state : states) state = squashed<T>(c.squash, state);
        put(states, at(c.features) + row * wide(), j, which);
    }

    template <class Which>
    void step_unit(const Own& unit, const T* entered, T* carried, Index row, Index j, Which which) const {
        V a[G], h[S], gate[G], auxiliary = {}, after[S];
        for (Index g = 0; g < G; ++g) a[g] = load(entered + g * lanes);
        if (c.noise)
            for (Index g = 0; g < G; ++g) a[g] += load(at(c.noise) + row * nodes() + g * c.hidden + j, which);
        get(carried, j, which, h);
        Units::step(unit, a, h, gate, auxiliary, after);
        put(after, carried, j, which);
        put_states(after, row + c.batch, j, which);
        if constexpr (Units::keeps_gates) put(gate, at(c.gates) + row * nodes(), j, which);
        if constexpr (Units::has_auxiliary) store(at(c.auxiliary) + row * c.hidden + j, auxiliary, which);
    }

    // What the step that made row `row` of the history says of its derivatives.
    template <class Which>
    Local local(const Own& unit, Index row, Index j, Which which) const {
        V gate[G], auxiliary = {}, before[S];
        get(at(c.states) + row * wide(), j, which, before);
        if constexpr (Units::keeps_gates)
            get(at(c.gates) + row * nodes(), j, which, gate);
        else
            get(after(row), j, which, gate);
        if constexpr (Units::has_auxiliary) auxiliary = load(at(c.auxiliary) + row * c.hidden + j, which);
        return Local(unit, gate, auxiliary, before);
    }

    void back_share(const Share& share) const {
        const Rows<T> carried(share.rows, wide());
        const auto each_carried = [&](const auto& body) {
            for (Index r = 0; r < share.rows; ++r)
                for (Index s = 0; s < S; ++s)
                    body(at(c.carried[s]) + (share.first + r) * c.hidden + share.from,
                         carried.row(r) + s * c.hidden + share.from);
        };
        const Index count = share.to - share.from;
        each_carried([&](const T* given, T* kept) { copy(given, kept, count); });
        const std::vector<Own> units = units_of(share);
        for (Index t = c.steps; t-- > 0;)
            for (Index r = 0; r < share.rows; ++r) {
                const Index row = t * c.batch + share.first + r;
                each_vector<T>(count, [&](Index k, auto which) __attribute__((always_inline)) {
                    const Index j = share.from + k;
                    V s[S], delta[G];
                    get(carried.row(r), j, which, s);
                    if (c.signal) hear(at(c.signal) + row * wide(), after(row), j, which, s);
                    Units::back(local(units[std::size_t(k / lanes)], row, j, which), s, delta);
                    put(delta, at(c.delta) + row * nodes(), j, which);
                    put(s, carried.row(r), j, which);
                });
            }
        each_carried([&](T* made, const T* kept) { copy(kept, made, count); });
    }

    // --- traces --------------------------------------------------------------------------------

    // What enters: the inputs, 1 for the bias, and what the units' own parameters meet. Of each, G numbers a unit.
    Index entering() const { return c.inputs + 1 + (Units::owns ? 1 : 0); }

    void trace_units(Index v0, Index v1) const {
        constexpr Index block = 32;  // steps: a row's stretch of the history is read for all units before the next
        const Index size = entering() * G * lanes, count = v1 - v0;
        const Buffer<T> traces(c.batch * count * size), sums(count * size);
        std::memset(traces.get(), 0, std::size_t(c.batch * count * size) * sizeof(T));
        std::memset(sums.get(), 0, std::size_t(count * size) * sizeof(T));
        for (Index t0 = 0; t0 < c.steps; t0 += block)
            for (Index b = 0; b < c.batch; ++b) {
                const Index length = c.lengths ? Index(reinterpret_cast<const std::int64_t*>(c.lengths)[b]) : c.steps;
                const Index t1 = std::min({t0 + block, c.steps, length});
                if (t1 <= t0) continue;
                for (Index v = 0; v < count; ++v) {
                    const Index j = (v0 + v) * lanes;
                    const Stretch stretch{b, t0, t1, t1 == length, j, traces.get() + (b * count + v) * size,
                                          sums.get() + v * size};
                    if (j + lanes <= c.hidden)
                        follow(stretch, Whole{});
                    else
                        follow(stretch, Part{c.hidden - j});
                }
            }
        for (Index v = 0; v < count; ++v) finish((v0 + v) * lanes, sums.get() + v * size);
    }

    // Steps [t0, t1) of a sequence, for the units at j; whether its last one is among them.
    struct Stretch {
        Index b, t0, t1;
        bool ends;
        Index j;
        T *trace, *sum;
    };

    template <class Which>
    void follow(const Stretch& s, Which which) const {
        const Own unit(own, s.j, which);
        if (c.signal)
            follow_all<true>(s, unit, which);
        else
            follow_all<false>(s, unit, which);
    }

    template <bool meets, class Which>
    void follow_all(const Stretch& s, const Own& unit, Which which) const {
        Index i = follow_inputs<meets, Units::at_once>(s, unit, 0, which);
        if constexpr (Units::at_once > 1) i = follow_inputs<meets, 1>(s, unit, i, which);
        follow_some<meets, 0>(s, unit, i, which);
    }
    template <bool meets, int N, class Which>
    Index follow_inputs(const Stretch& s, const Own& unit, Index i, Which which) const {
        for (; i + N <= c.inputs; i += N) follow_some<meets, N>(s, unit, i, which);
        return i;
    }

    // N inputs from i on; none stands for the bias and the units' own parameters. Traces and sums stay in registers.
    template <bool meets, int N, class Which>
    void follow_some(const Stretch& s, const Own& unit, Index i, Which which) const {
        constexpr int E = N ? N : Units::owns ? 2 : 1;
        V e[E][G], sum[E][G] = {};
        T* trace = s.trace + i * G * lanes;
        T* total = s.sum + i * G * lanes;
#pragma GCC unroll 16
        for (int n = 0; n < E; ++n)
#pragma GCC unroll 4
            for (int g = 0; g < G; ++g) e[n][g] = load(trace + (n * G + g) * lanes);
        for (Index t = s.t0; t < s.t1; ++t) {
            const Index row = t * c.batch + s.b;
            const Local at_step = local(unit, row, s.j, which);
            const T* x = at(c.x) + row * c.inputs + i;
#pragma GCC unroll 16
            for (int n = 0; n < E; ++n) {
                if (N)
                    Units::follow(at_step, e[n], broadcast(x[n]));
                else if (n == 0)
                    Units::follow(at_step, e[n], broadcast(T(1)));
                else
                    Units::follow_own(at_step, e[n]);
            }
            if constexpr (meets) {
                V signal[S] = {};
                hear(at(c.signal) + row * wide(), after(row), s.j, which, signal);
#pragma GCC unroll 16
                for (int n = 0; n < E; ++n) Units::meet(sum[n], e[n], signal);
            }
        }
        if (s.ends && c.last) {
            V signal[S] = {};
            hear(at(c.last) + s.b * wide(), after((s.t1 - 1) * c.batch + s.b), s.j, which, signal);
#pragma GCC unroll 16
            for (int n = 0; n < E; ++n) Units::meet(sum[n], e[n], signal);
        }
#pragma GCC unroll 16
        for (int n = 0; n < E; ++n)
#pragma GCC unroll 4
            for (int g = 0; g < G; ++g) {
                const Index place = (n * G + g) * lanes;
                store(trace + place, e[n][g]);
                store(total + place, load(total + place) + sum[n][g]);
            }
    }

    // From the sums of the units at j to the gradients of their parameters.
    void finish(Index j, const T* sum) const {
        const Index count = std::min(lanes, c.hidden - j);
        const auto of = [&](Index entered, Index g, Index k) { return sum[(entered * G + g) * lanes + k]; };
        Part part{count};
        T gamma[lanes], ratio[lanes], grown[lanes], turned[lanes];
        if constexpr (S == 2) {
            const Own unit = count == lanes ? Own(own, j, Whole{}) : Own(own, j, part);
            store(gamma, unit.gamma), store(ratio, unit.ratio), store(grown, unit.grown), store(turned, unit.turned);
        }
        for (Index k = 0; k < count; ++k) {
            T entered = 0;  // gamma's own gradient
            for (Index g = 0; g < G; ++g) {
                const Index row = g * c.hidden + j + k;
                for (Index i = 0; i <= c.inputs; ++i) {
                    const bool bias = i == c.inputs;
                    const T *value = bias ? at(c.bias) : at(c.weight);
                    T* to = bias ? at(c.made_bias) : at(c.made_weight);
                    if (!to) continue;
                    const Index place = bias ? row : row * c.inputs + i;
                    if constexpr (S == 2) {
                        entered += value[place] * of(i, g, k);
                        to[place] = gamma[k] * of(i, g, k);
                    } else {
                        to[place] = of(i, g, k);
                    }
                }
            }
            if constexpr (S == 2) {
                const Index met = c.inputs + 1;
                at(c.made_own[0])[j + k] = grown[k] * (ratio[k] * entered - of(met, 0, k));
                at(c.made_own[1])[j + k] = turned[k] * of(met, 1, k);
            } else if constexpr (Units::owns) {
                at(c.made_own[0])[j + k] = of(c.inputs + 1, 0, k);
            }
        }
    }

    const ElementwiseCall& c;
    const T* const own[2];
};

// work(the layer that the call is of)
template <class T, class Work>
void on_elementwise(const ElementwiseCall& call, const Work& work) {
    with_units<T>(static_cast<ElementwiseCell>(call.cell), [&](auto units) {
        work(ElementwiseLayer<decltype(units), T>(call));
    });
}

}  // namespace kernels
