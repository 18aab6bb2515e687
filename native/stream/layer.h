// One layer of a stream: its weights, what it carries, and its step forward.
#pragma once

#include "../activations.h"
#include "../elementwise/units.h"
#include "../layer.h"
#include "../parallel.h"
#include "optimizer.h"
#include "products.h"

namespace kernels {

enum Kind { kIh, kHh, kBih, kBhh };
constexpr Index kFirstUnits = 4;  // the code of the first element-wise cell

template <class T, class Body>
inline void each_unit(const Share& share, const Body& body) {
    for (Index r = share.first; r < share.first + share.rows; ++r)
        each_vector<T>(share.from, share.to, [&](Index j, auto which) __attribute__((always_inline)) {
            body(r, j, which);
        });
}

// The noise of a row of nodes: `by` times the vector at `at`; none where `at` is null.
template <class T>
struct NodeNoise {
    const T* at;
    T by;
};

template <class T>
class StreamLayer {
  public:
    StreamLayer(const StreamCall& call, const LayerCall& own, Index inputs, Index rows, const GroupCall* groups)
        : cell(static_cast<Cell>(call.cell)),
          has_units(call.cell >= kFirstUnits),
          units(static_cast<ElementwiseCell>(call.cell - kFirstUnits)),
          squash(call.squash),
          hidden(call.hidden),
          inputs(inputs),
          features(features_of(call)),
          gates(has_units ? units_gates(units) : gates_of(cell)),
          nodes(gates * hidden),
          gain(T(call.gain)),
          learners{{own.parameters[kIh], inputs, groups},
                   {own.parameters[kHh], hidden, groups},
                   {own.parameters[kBih], nodes, groups},
                   {own.parameters[kBhh], nodes, groups}},
          weights{learners[kIh].value, learners[kHh].value, learners[kBih].value, learners[kBhh].value},
          decorrelation(reinterpret_cast<T*>(own.decorrelation)),
          entering(decorrelation ? rows : 0, hidden),
          leaving(decorrelation ? rows : 0, hidden),
          states{{rows, features}, {rows, features}},
          squashed_states(squash ? rows : 0, features),
          cell_states{{lstm() ? rows : 0, hidden}, {lstm() ? rows : 0, hidden}},
          pre(rows, nodes),
          active(rows, nodes),
          linear(cell == Cell::rnn ? 0 : rows, hidden) {}

    // How wide what reads a layer is.
    static Index features_of(const StreamCall& call) {
        return call.cell == kFirstUnits + Index(ElementwiseCell::lru) ? 2 * call.hidden : call.hidden;
    }

    bool lstm() const { return cell == Cell::lstm; }
    Index kinds_of_states() const { return lstm() ? 2 : features / hidden; }
    bool reset_after() const { return cell == Cell::gru; }
    bool reset_before() const { return cell == Cell::gru_reset_before; }
    const Rows<T>& before() const { return states[now]; }
    const Rows<T>& after() const { return states[1 - now]; }
    // What W sees of the states before, and what all that reads this layer sees of those after.
    const Rows<T>& enters() const { return decorrelation ? entering : before(); }
    const Rows<T>& leaves() const { return decorrelation ? leaving : squash ? squashed_states : after(); }
    T* state_before(Index kind, Index row) const {
        return lstm() && kind ? cell_before().row(row) : before().row(row) + kind * hidden;
    }
    const Rows<T>& cell_before() const { return cell_states[now]; }
    const Rows<T>& cell_after() const { return cell_states[1 - now]; }
    void move_on() { now = 1 - now; }

    // D h of some units.
    void decorrelate(const Rows<T>& h, const Rows<T>& to, const Share& share) const {
        multiply(decorrelation + share.from * hidden, hidden, share.to - share.from, h.row(share.first), h.stride,
                 share.rows, to.row(share.first) + share.from, to.stride, false);
    }

    // Pre-activations from x and the states before; biases and noise join in `reset` and `activate`.
    void drive(const T* const (&w)[4], const T* x, Index ldx, const Share& share) {
        const Index count = share.to - share.from;
        const T* h = enters().row(share.first);
        for (Index g = 0; g < gates; ++g) {
            const Index row = g * hidden + share.from;
            T* out = pre.row(share.first) + row;
            multiply(w[kIh] + row * inputs, inputs, count, x, ldx, share.rows, out, pre.stride, false);
            if (has_units) continue;
            const T* own = w[kHh] + row * hidden;
            if (g == 2 && reset_after())
                multiply(own, hidden, count, h, enters().stride, share.rows, linear.row(share.first) + share.from,
                         linear.stride, false);
            else if (!(g == 2 && reset_before()))
                multiply(own, hidden, count, h, enters().stride, share.rows, out, pre.stride, true);
        }
    }

    // The GRU with reset before: r and r h, of which all candidates see all.
    template <class Noise>
    void reset(const T* const (&w)[4], const Share& share, const Noise& noise) {
        each_unit<T>(share, [&](Index r, Index j, auto which) {
            const Vec<T> gate = sigmoid<T>(joined(w, r, j, noise(r), which));
            store(active.row(r) + j, gate, which);
            store(linear.row(r) + j, gate * load(enters().row(r) + j, which), which);
        });
    }
    void drive_candidate(const T* const (&w)[4], const Share& share) {
        const Index row = 2 * hidden + share.from;
        multiply(w[kHh] + row * hidden, hidden, share.to - share.from, linear.row(share.first), linear.stride,
                 share.rows, pre.row(share.first) + row, pre.stride, true);
    }

    // From pre-activations to the states after.
    template <class Noise>
    void activate(const T* const (&w)[4], const Share& share, const Noise& noise) {
        each_unit<T>(share, [&](Index r, Index j, auto which) {
            const auto node = [&](Index g) { return joined(w, r, g * hidden + j, noise(r), which); };
            T* y = active.row(r) + j;
            T* h = after().row(r) + j;
            const Vec<T> old = load(before().row(r) + j, which);
            if (cell == Cell::rnn) {
                const Vec<T> a = tanh<T>(node(0));
                store(y, a, which);
                store(h, gain == 1 ? a : fma(a - old, broadcast(gain), old), which);
            } else if (lstm()) {
                const Vec<T> i = sigmoid<T>(node(0)), f = sigmoid<T>(node(1)), g = tanh<T>(node(2)),
                             o = sigmoid<T>(node(3));
                const Vec<T> c = fma(i, g, f * load(cell_before().row(r) + j, which)), squashed = tanh<T>(c);
                store(y, i, which);
                store(y + hidden, f, which);
                store(y + 2 * hidden, g, which);
                store(y + 3 * hidden, o, which);
                store(cell_after().row(r) + j, c, which);
                store(linear.row(r) + j, squashed, which);
                store(h, o * squashed, which);
            } else {
                if (reset_after()) {
                    const Vec<T> gate = sigmoid<T>(node(0));
                    Vec<T> recurrent = load(linear.row(r) + j, which);
                    if (w[kBhh]) recurrent += load(w[kBhh] + 2 * hidden + j, which);
                    store(linear.row(r) + j, recurrent, which);
                    T* at = pre.row(r) + 2 * hidden + j;
                    store(at, fma(gate, recurrent, load(at, which)), which);
                    store(y, gate, which);
                }
                const Vec<T> z = sigmoid<T>(node(1)), n = tanh<T>(node(2));
                store(y + hidden, z, which);
                store(y + 2 * hidden, n, which);
                store(h, fma(old - n, z, n), which);
            }
        });
    }

    const Cell cell;
    const bool has_units;  // element-wise ones, by `elementwise.h`
    const ElementwiseCell units;
    const std::int64_t squash;
    const Index hidden, inputs, features, gates, nodes;
    const T gain;
    Learner<T> learners[4];
    const T* const weights[4];
    T* const decorrelation;           // D, or null
    const Rows<T> entering, leaving;  // D h, before and after
    const Rows<T> states[2], squashed_states, cell_states[2];
    const Rows<T> pre, active;  // pre-activations with noise on them, and what the gates made of them
    const Rows<T> linear;       // GRU: W_n h + b_hn, or r h; LSTM: tanh c; minLSTM: the share that is written

  private:
    // A pre-activation with its biases and noise.
    template <class Which>
    Vec<T> joined(const T* const (&w)[4], Index r, Index node, const NodeNoise<T>& noise, Which which) {
        T* at = pre.row(r) + node;
        Vec<T> sum = load(at, which);
        if (w[kBih]) {
            sum += load(w[kBih] + node, which);
            if (!(reset_after() && node >= 2 * hidden)) sum += load(w[kBhh] + node, which);
        }
        if (noise.at) sum = fma(load(noise.at + node, which), broadcast(noise.by), sum);
        store(at, sum, which);
        return sum;
    }

    int now = 0;
};

}  // namespace kernels
