// From a signal at the states of one step to the nodes, and what remains of a unit's past.
#pragma once

#include "layer.h"

namespace kernels {

// A layer's signals and traces, for the sequences of a batch.
template <class T>
class LayerCredit {
  public:
    // copies: of every sequence that carry noise, 0 where an error is known.
    LayerCredit(const StreamCall& call, const LayerCall& own, StreamLayer<T>& layer, Index copies)
        : layer(layer),
          batch(call.batch),
          past(static_cast<Past>(call.trace)),
          feedback(reinterpret_cast<const T*>(own.feedback)),
          signal(batch, layer.features),
          at_own{{layer.has_units ? batch : 0, layer.hidden}, {layer.has_units ? batch : 0, layer.hidden}},
          seen(layer.decorrelation ? batch : 0, layer.hidden),
          carried(layer.decorrelation ? batch : 0, layer.hidden),
          none(layer.lstm() ? batch : 0, layer.hidden),
          unit(traced() ? batch : 0, layer.hidden),
          delta(batch, layer.nodes),
          behind(layer.reset_after() ? batch : 0, layer.nodes),
          slopes{{traced() ? batch : 0, layer.nodes}, {traced() && two_states() ? batch : 0, layer.nodes}},
          slope_behind(traced() && layer.reset_after() ? batch : 0, layer.nodes),
          keep{{traced() ? batch : 0, layer.hidden},
               {traced() ? batch : 0, layer.hidden},
               {traced() ? batch : 0, layer.hidden},
               {traced() ? batch : 0, layer.hidden}},
          way(copies * batch, layer.nodes),
          way_behind(layer.reset_after() ? copies * batch : 0, layer.nodes) {
        for (Index b = 0; b < unit.rows; ++b)
            for (Index j = 0; j < layer.hidden; ++j) unit.row(b)[j] = 1;
        for (int k = 0; k < 4; ++k) {
            for (int s = 0; s < 2; ++s) traces[s][k] = reinterpret_cast<T*>(own.traces[s][k]);
            credits[k] = reinterpret_cast<T*>(own.credits[k]);
        }
    }

    bool traced() const { return past != Past::none; }
    bool two_states() const { return layer.kinds_of_states() == 2; }
    // How many states a unit shows to what reads it.
    Index seen_states() const { return layer.features / layer.hidden; }

    // G = F e for some units; errors (b, o).
    void project(const Rows<T>& errors, Index outputs, const Share& share) {
        for (Index b = 0; b < batch; ++b)
            for (Index s = 0; s < seen_states(); ++s) {
                const Index from = s * layer.hidden + share.from;
                multiply(feedback + from * outputs, outputs, share.to - share.from, errors.row(b), errors.stride, 1,
                         signal.row(b) + from, signal.stride, false);
            }
    }
    // G of some units from signals `at` (b, rows) of what reads them by w (rows, features); with D, at D h.
    void carry(const T* w, Index rows, const Rows<T>& at, const Share& share) {
        const Rows<T>& to = layer.decorrelation ? seen : signal;
        for (Index s = 0; s < seen_states(); ++s) {
            const Index from = s * layer.hidden + share.from;
            carry_back(w, layer.features, rows, at.begin(), at.stride, batch, from, from + share.to - share.from,
                       to.begin(), to.stride);
        }
    }

    // δ of some units from the signals at their h. Of the GRU with reset before, r is `finish`ed when all
    // candidates have theirs.
    void to_nodes(const Share& share) { nodes(share, signal, none, delta, behind); }
    void finish(const Share& share) {
        const StreamLayer<T>& l = layer;
        carry_back(l.weights[kHh] + 2 * l.hidden * l.hidden, l.hidden, l.hidden, delta.begin() + 2 * l.hidden,
                   delta.stride, batch, share.from, share.to, delta.begin(), delta.stride);
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            const Vec<T> r = load(l.active.row(b) + j, which), h = load(l.enters().row(b) + j, which);
            T* at = delta.row(b) + j;
            store(at, load(at, which) * h * r * (T(1) - r), which);
        });
    }

    // With D: from a signal at D h to the one at h, for some units.
    void carry_through(const Share& share) {
        const Index n = layer.hidden;
        carry_back(layer.decorrelation, n, n, seen.begin(), seen.stride, batch, share.from, share.to, signal.begin(),
                   signal.stride);
    }

    // D <- D - lr <h* h*^T - diag(h*^2)> D with h* = D h: h*^T D first, of some units, then rows of D.
    void plan_decorrelation(const Share& share) {
        const Rows<T>& h = layer.leaves();
        const Index n = layer.hidden;
        carry_back(layer.decorrelation, n, n, h.begin(), h.stride, batch, share.from, share.to, carried.begin(),
                   carried.stride);
    }
    void learn_decorrelation(T lr, bool preserves_norm, const Share& share) {
        const Rows<T>& h = layer.leaves();
        const Index n = layer.hidden;
        const T rate = lr / T(batch);
        for (Index i = share.from; i < share.to; ++i) {
            T* row = layer.decorrelation + i * n;
            T square = 0;
            Vec<T> before = {}, after = {};
            for (Index b = 0; b < batch; ++b) square += h.row(b)[i] * h.row(b)[i];
            each_vector<T>(n, [&](Index j, auto which) {
                const Vec<T> old = load(row + j, which);
                Vec<T> sum = old * -square;
                for (Index b = 0; b < batch; ++b)
                    sum = fma(load(carried.row(b) + j, which), broadcast(h.row(b)[i]), sum);
                const Vec<T> moved = fma(sum, broadcast(-rate), old);
                before = fma(old, old, before), after = fma(moved, moved, after);
                store(row + j, moved, which);
            });
            if (!preserves_norm) continue;
            T was = 0, is = 0;
            for (Index lane = 0; lane < kLanes<T>; ++lane) was += before[lane], is += after[lane];
            if (is <= 0) continue;
            const T gain = std::sqrt(was / is);
            each_vector<T>(n, [&](Index j, auto which) { store(row + j, load(row + j, which) * gain, which); });
        }
    }

    // What the states at t owe to the nodes at t, and to the states before, unit by unit.
    void reduce(const Share& share) {
        nodes(share, unit, none, slopes[0], slope_behind);
        if (layer.lstm()) cell_nodes(share);
        each_unit<T>(share, [&](Index b, Index j, auto which) { keep_unit(b, j, which); });
    }

    // E ← J E + slope ⊗ what entered, for some units, of the parameters with columns and then of the biases.
    void follow(const T* x, Index ldx, const Share& share) {
        const StreamLayer<T>& l = layer;
        for (Index b = 0; b < batch; ++b)
            for (Index g = 0; g < l.gates; ++g) {
                const Index first = g * l.hidden + share.from, last = g * l.hidden + share.to;
                for (Index i = first; i < last; ++i) {
                    const Index u = i - g * l.hidden;
                    follow_row(kIh, b, i, u, slopes[0].row(b)[i], x + b * ldx, l.inputs);
                    if (l.has_units) continue;
                    follow_row(kHh, b, i, u, behind_slope().row(b)[i], l.enters().row(b), l.hidden);
                }
                follow_bias(kBih, b, first, share.from, last - first, slopes[0]);
                if (!l.has_units) follow_bias(kBhh, b, first, share.from, last - first, behind_slope());
            }
    }

    // What entered a gate's rows of W.
    const Rows<T>& entered(Index g) const {
        return g == 2 && layer.reset_before() ? layer.linear : layer.enters();
    }
    const Rows<T>& hidden_delta() const { return layer.reset_after() ? behind : delta; }
    const Rows<T>& hidden_way() const { return layer.reset_after() ? way_behind : way; }

    // Some units of (δ_r, δ_z, r δ_n), of `count` rows that are copies of the batch.
    void gate_candidates(const Rows<T>& from, const Rows<T>& to, Index count, const Share& share) {
        if (!layer.reset_after()) return;
        const Index hidden = layer.hidden;
        each_unit<T>(share.of_rows(0, count), [&](Index n, Index j, auto which) {
            const Vec<T> r = load(layer.active.row(n % batch) + j, which);
            for (Index g = 0; g < 3; ++g) {
                const Vec<T> own = load(from.row(n) + g * hidden + j, which);
                store(to.row(n) + g * hidden + j, g == 2 ? own * r : own, which);
            }
        });
    }

    StreamLayer<T>& layer;
    const Index batch;
    const Past past;
    const T* const feedback;
    T *traces[2][4], *credits[4];
    const Rows<T> signal;         // at the features, (b, f)
    const Rows<T> at_own[2];      // at the own parameters of element-wise units, (b, h)
    const Rows<T> seen;           // with D: the signal at D h
    const Rows<T> carried;        // with D: what its update carries back, (D h)^T D
    const Rows<T> none, unit;     // signals 0 and 1
    const Rows<T> delta, behind;  // at the nodes (b, g), as they meet V and as they meet W
    const Rows<T> slopes[2], slope_behind;
    const Rows<T> keep[4];        // ∂h/∂h₋, ∂h/∂c₋, ∂c/∂h₋, ∂c/∂c₋, by unit
    const Rows<T> way, way_behind;  // what noise changed at the nodes, (copies, b, g)

  private:
    const Rows<T>& behind_slope() const { return layer.reset_after() ? slope_behind : slopes[0]; }

    void nodes(const Share& share, const Rows<T>& at_h, const Rows<T>& at_c, const Rows<T>& out,
               const Rows<T>& gated) {
        const StreamLayer<T>& l = layer;
        const Index n = l.hidden;
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            const T* y = l.active.row(b) + j;
            T* d = out.row(b) + j;
            const Vec<T> own = load(at_h.row(b) + j, which), a = load(y, which);
            if (l.cell == Cell::rnn) {
                store(d, own * (fma(-a, a, broadcast<T>(1)) * l.gain), which);
            } else if (l.lstm()) {
                const Vec<T> o = load(y + 3 * n, which), squashed = load(l.linear.row(b) + j, which);
                const Vec<T> at = fma(own * o, fma(-squashed, squashed, broadcast<T>(1)), load(at_c.row(b) + j, which));
                through_cell(b, j, at, d, which);
                store(d + 3 * n, own * squashed * o * (T(1) - o), which);
            } else {
                const Vec<T> z = load(y + n, which), c = load(y + 2 * n, which), r = a;
                const Vec<T> open = own * (T(1) - z), candidate = open * fma(-c, c, broadcast<T>(1));
                const Vec<T> update = open * z * (load(l.before().row(b) + j, which) - c);
                store(d + n, update, which);
                store(d + 2 * n, candidate, which);
                if (!l.reset_after()) return;
                const Vec<T> reset = candidate * load(l.linear.row(b) + j, which) * r * (T(1) - r);
                store(d, reset, which);
                T* w = gated.row(b) + j;
                store(w, reset, which);
                store(w + n, update, which);
                store(w + 2 * n, candidate * r, which);
            }
        });
    }

    template <class Which>
    void through_cell(Index b, Index j, Vec<T> at_c, T* d, Which which) {
        const StreamLayer<T>& l = layer;
        const Index n = l.hidden;
        const T* y = l.active.row(b) + j;
        const Vec<T> i = load(y, which), f = load(y + n, which), g = load(y + 2 * n, which);
        store(d, at_c * g * i * (T(1) - i), which);
        store(d + n, at_c * load(l.cell_before().row(b) + j, which) * f * (T(1) - f), which);
        store(d + 2 * n, at_c * i * fma(-g, g, broadcast<T>(1)), which);
    }

    void cell_nodes(const Share& share) {
        each_unit<T>(share, [&](Index b, Index j, auto which) {
            through_cell(b, j, broadcast<T>(1), slopes[1].row(b) + j, which);
            store(slopes[1].row(b) + 3 * layer.hidden + j, Vec<T>{}, which);
        });
    }

    // (W D)_uu of gate g for the units at j.
    template <class Which>
    Vec<T> of_itself(Index g, Index j, Which which) const {
        const Index n = layer.hidden;
        T own[kLanes<T>] = {};
        const Index count = n - j < kLanes<T> ? n - j : kLanes<T>;
        for (Index k = 0; k < count; ++k) {
            const T* row = layer.weights[kHh] + (g * n + j + k) * n;
            if (!layer.decorrelation) own[k] = row[j + k];
            for (Index i = 0; layer.decorrelation && i < n; ++i) own[k] += row[i] * layer.decorrelation[i * n + j + k];
        }
        return load(own, which);
    }

    template <class Which>
    void keep_unit(Index b, Index j, Which which) {
        const StreamLayer<T>& l = layer;
        const Index n = l.hidden;
        const bool whole = past == Past::diagonal;
        const T* y = l.active.row(b) + j;
        T* to = keep[0].row(b) + j;
        const T* s = slopes[0].row(b) + j;
        const auto own = [&](Index g) { return of_itself(g, j, which); };
        if (l.cell == Cell::rnn) {
            const Vec<T> leak = broadcast(T(1) - l.gain);
            store(to, whole ? fma(load(s, which), own(0), leak) : leak, which);
        } else if (l.lstm()) {
            const T* c = slopes[1].row(b) + j;
            const Vec<T> f = load(y + n, which), o = load(y + 3 * n, which),
                         squashed = load(l.linear.row(b) + j, which);
            const Vec<T> by_cell = o * fma(-squashed, squashed, broadcast<T>(1));
            Vec<T> cell = {}, hidden = {};
            if (whole) {
                cell = fma(load(c, which), own(0), fma(load(c + n, which), own(1), load(c + 2 * n, which) * own(2)));
                hidden = fma(load(s + 3 * n, which), own(3), by_cell * cell);
            }
            store(to, hidden, which);
            store(keep[1].row(b) + j, by_cell * f, which);
            store(keep[2].row(b) + j, cell, which);
            store(keep[3].row(b) + j, f, which);
        } else {
            const Vec<T> z = load(y + n, which), r = load(y, which);
            Vec<T> kept = z;
            if (whole) {
                kept = fma(load(s, which), own(0), kept);
                kept = fma(load(s + n, which), own(1), kept);
                kept = fma(load(s + 2 * n, which) * r, own(2), kept);
            }
            store(to, kept, which);
        }
    }

    void follow_row(int kind, Index b, Index i, Index u, T slope, const T* x, Index columns) {
        const Index at = (b * layer.nodes + i) * columns;
        T* e = traces[0][kind] + at;
        const Vec<T> by = broadcast(slope), kept = broadcast(keep[0].row(b)[u]);
        if (!two_states()) {
            each_vector<T>(columns, [&](Index j, auto which) {
                store(e + j, fma(load(e + j, which), kept, load(x + j, which) * by), which);
            });
            return;
        }
        T* cell = traces[1][kind] + at;
        const Vec<T> cell_by = broadcast(slopes[1].row(b)[i]), from_cell = broadcast(keep[1].row(b)[u]);
        const Vec<T> to_cell = broadcast(keep[2].row(b)[u]), cell_kept = broadcast(keep[3].row(b)[u]);
        each_vector<T>(columns, [&](Index j, auto which) {
            const Vec<T> own = load(e + j, which), other = load(cell + j, which), entered = load(x + j, which);
            store(e + j, fma(own, kept, fma(other, from_cell, entered * by)), which);
            store(cell + j, fma(own, to_cell, fma(other, cell_kept, entered * cell_by)), which);
        });
    }

    void follow_bias(int kind, Index b, Index first, Index unit, Index count, const Rows<T>& slope) {
        if (!traces[0][kind]) return;
        T* e = traces[0][kind] + b * layer.nodes + first;
        T* cell = two_states() ? traces[1][kind] + b * layer.nodes + first : nullptr;
        each_vector<T>(count, [&](Index j, auto which) {
            const auto at = [&](const Rows<T>& rows, Index k) { return load(rows.row(b) + k + j, which); };
            const Vec<T> own = load(e + j, which);
            Vec<T> next = fma(own, at(keep[0], unit), at(slope, first));
            if (cell) {
                const Vec<T> other = load(cell + j, which);
                next = fma(other, at(keep[1], unit), next);
                store(cell + j,
                      fma(own, at(keep[2], unit), fma(other, at(keep[3], unit), at(slopes[1], first))), which);
            }
            store(e + j, next, which);
        });
    }
};

}  // namespace kernels
