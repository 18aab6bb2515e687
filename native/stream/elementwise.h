// Element-wise units in a stream: their step forward, their traces, and signals at their nodes.
//
// A layer of these has V and b in the places of a cell's first weight and first bias, and the units' own parameters (u;
// nu and theta) in the other two. Of several states, re and im, each row holds one after the other.
#pragma once

#include "../elementwise/units.h"
#include "credit.h"

namespace kernels {

template <class Units, class T>
class UnitsInStream {
  public:
    explicit UnitsInStream(StreamLayer<T>& layer) : l(layer), own{layer.weights[kHh], layer.weights[kBhh]} {}

    // From V x to the states after, and their features.
    void step(const T* bias, const Share& share) const {
        each_unit<T>(share, [&](Index r, Index j, auto which) {
            const Own unit(own, j, which);
            V a[G], h[S], gate[G], auxiliary = {}, after[S];
            for (Index g = 0; g < G; ++g) {
                T* at = l.pre.row(r) + g * l.hidden + j;
                a[g] = load(at, which);
                if (bias) a[g] += load(bias + g * l.hidden + j, which);
                store(at, a[g], which);
                a[g] *= Units::gain(unit);
            }
            get(l.before().row(r), j, which, h);
            Units::step(unit, a, h, gate, auxiliary, after);
            put(after, l.after().row(r), j, which);
            if constexpr (Units::keeps_gates) put(gate, l.active.row(r), j, which);
            if constexpr (Units::has_auxiliary) store(l.linear.row(r) + j, auxiliary, which);
            if (!l.squash) return;
            for (V& state : after) state = squashed<T>(l.squash, state);
            put(after, l.leaves().row(r), j, which);
        });
    }

    // Signals at the features to signals at the states, in place.
    void hear(LayerCredit<T>& credit, const Share& share) const {
        if (!l.squash) return;
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            for (Index s = 0; s < S; ++s) {
                T* at = credit.signal.row(b) + s * l.hidden + j;
                store(at, load(at, which) * slope_of_squash<T>(l.squash, load(l.after().row(b) + s * l.hidden + j, which)),
                      which);
            }
        });
    }

    // Signals at what enters the nodes, and at the units' own parameters.
    void to_nodes(LayerCredit<T>& credit, const Share& share) const {
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            const Own unit(own, j, which);
            const Local at_step = local(unit, b, j, which);
            V s[S], delta[G], slope[2][S] = {};
            get(credit.signal.row(b), j, which, s);
            by_own(unit, at_step, b, j, which, slope);
            for (Index p = 0; p < kOwn; ++p) {
                V sum = {};
                for (Index k = 0; k < S; ++k) sum = fma(s[k], slope[p][k], sum);
                store(credit.at_own[p].row(b) + j, sum, which);
            }
            Units::back(at_step, s, delta);
            for (V& own : delta) own *= Units::gain(unit);
            put(delta, credit.delta.row(b), j, which);
        });
    }

    // What the states owe to what enters the nodes and to the states before; the traces of the own parameters.
    void reduce(LayerCredit<T>& credit, const Share& share) const {
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            const Own unit(own, j, which);
            const Local at_step = local(unit, b, j, which);
            V keep[S][S], slope[2][S] = {};
            for (Index s = 0; s < S; ++s) {
                V delta[G];
                for (Index k = 0; k < S; ++k) keep[s][k] = broadcast(T(s == k));
                Units::back(at_step, keep[s], delta);
                for (V& own : delta) own *= Units::gain(unit);
                put(delta, credit.slopes[s].row(b), j, which);
                for (Index k = 0; k < S; ++k) store(credit.keep[s * S + k].row(b) + j, keep[s][k], which);
            }
            by_own(unit, at_step, b, j, which, slope);
            for (Index p = 0; p < kOwn; ++p) {
                V before[S];
                for (Index k = 0; k < S; ++k) before[k] = load(own_trace(credit, p, k) + b * l.hidden + j, which);
                for (Index s = 0; s < S; ++s) {
                    V sum = slope[p][s];
                    for (Index k = 0; k < S; ++k) sum = fma(keep[s][k], before[k], sum);
                    store(own_trace(credit, p, s) + b * l.hidden + j, sum, which);
                }
            }
        });
    }

  private:
    using Own = typename Units::Own;
    using Local = typename Units::Local;
    using V = Vec<T>;
    static constexpr Index G = Units::gates, S = Units::states, kOwn = Units::owns ? S : 0;

    template <class Which, Index N>
    void get(const T* from, Index j, Which which, V (&to)[N]) const {
        for (Index n = 0; n < N; ++n) to[n] = load(from + n * l.hidden + j, which);
    }
    template <class Which, Index N>
    void put(const V (&from)[N], T* to, Index j, Which which) const {
        for (Index n = 0; n < N; ++n) store(to + n * l.hidden + j, from[n], which);
    }
    template <class Which>
    Local local(const Own& unit, Index b, Index j, Which which) const {
        V gate[G], auxiliary = {}, before[S];
        get(l.before().row(b), j, which, before);
        get((Units::keeps_gates ? l.active : l.after()).row(b), j, which, gate);
        if constexpr (Units::has_auxiliary) auxiliary = load(l.linear.row(b) + j, which);
        return Local(unit, gate, auxiliary, before);
    }
    template <class Which>
    void by_own(const Own& unit, const Local& at_step, Index b, Index j, Which which, V (&slope)[2][S]) const {
        V entered[G];
        get(l.pre.row(b), j, which, entered);
        Units::by_own(unit, at_step, entered, slope);
    }
    static T* own_trace(const LayerCredit<T>& credit, Index p, Index state) {
        return credit.traces[state][p ? kBhh : kHh];
    }

    StreamLayer<T>& l;
    const T* const own[2];
};

// body(the units of a layer that has them, in the stream)
template <class T, class Body>
void on_units(StreamLayer<T>& layer, const Body& body) {
    with_units<T>(layer.units, [&](auto units) { body(UnitsInStream<decltype(units), T>(layer)); });
}

}  // namespace kernels
