// A one-layer tanh network that learns at every step of a stream: `timelocal.kernels.torch_online` in one
// call.
//
// Threads share the units, rows of every matrix, in a fixed number of parts, so that the result does not
// depend on how many threads there are. A weight is read once a step: the step of learning that the last
// step has left is made on four rows and those are multiplied with the states of this step at once. In
// each step the threads meet after the states, after the decorrelated states, after the outputs, and with
// decorrelation once more.
//
// The weights of a layer and its biases are one matrix M = [W, V, b_ih, b_hh], what enters it [h*, x, 1, 1];
// the readout is [U, c] and [h*, 1]. The noisy pass is more rows of the same batch, one pass that carries its
// own state, or as many as one likes that begin at every step from the clean one's. With D' = (1 - eps C) D
// the next step needs D' h = (1 - eps C) h*, so D h is not computed twice.
#pragma once

#include <memory>

#include "barrier.h"
#include "noise.h"
#include "rows.h"

namespace kernels {

enum class Learning { bp1, rflo, np, anp, wp };

template <class T>
struct OnlineCall {
    Learning kind;
    Index threads, steps, batch, inputs, hidden, outputs;
    Index directions;
    bool antithetic, preserve;
    T gain, lr, decorrelation_lr, sigma;
    std::uint64_t seed;
    std::int64_t first_step;
    T *ih, *hh, *b_ih, *b_hh, *readout, *readout_bias, *decorrelation;  // biases and D may be null
    const T *x, *y, *feedback;                                          // feedback: rflo's
    T *h, *noisy, *trace;  // may be null: noisy, where noise lasts one step, and trace
    T *losses, *out;
};

template <class T>
class Online {
  public:
    explicit Online(const OnlineCall<T>& call)
        : c(call),
          noisy(call.kind >= Learning::np),
          copies(noisy ? c.directions * (c.antithetic ? 2 : 1) : 0),
          rows((1 + copies) * c.batch),
          moving(c.noisy ? rows : c.batch),
          biases(c.b_ih ? 2 : 0),
          units(padded<T>(c.hidden + kRows)),
          nodes(padded<T>(c.outputs + kRows)),
          m(c.hidden, c.hidden + c.inputs + biases),
          u(c.outputs, c.hidden + (c.readout_bias ? 1 : 0)),
          d(c.decorrelation ? c.hidden : 0, c.hidden),
          m_noise(c.kind == Learning::wp ? c.hidden : 0, m.stride),
          u_noise(c.kind == Learning::wp ? c.outputs : 0, u.stride),
          trace(c.trace ? c.batch * padded_units() : 0, m.stride),
          entering{{moving, m.stride}, {moving, m.stride}, {moving, m.stride}},
          features{{rows, u.stride}, {rows, u.stride}},
          h(rows, units),
          a(moving, units),
          slope(c.batch, units),
          delta((copies ? copies : 1) * c.batch, units),
          beta(rows, nodes),
          correlate(c.batch, units),
          correlate_scale(1, units),
          carried(c.batch, d.stride),
          carried_parts(c.decorrelation ? kParts * c.batch : 0, d.stride),
          back_parts(c.decorrelation && c.kind == Learning::bp1 ? kParts * c.batch : 0, d.stride),
          gram(c.batch, moving),
          norms{{kParts, rows}, {kParts, rows}},
          noise{{c.directions, c.batch * c.hidden}, {c.directions, c.batch * c.hidden}},
          readout_noise{{c.directions, c.batch * c.outputs}, {c.directions, c.batch * c.outputs}} {}

    void run() {
        const Index threads = c.threads < kParts ? c.threads : kParts;
        const Index count = worth_sharing() ? threads : 1;
        std::vector<std::unique_ptr<Mine>> mine;
        for (Index i = 0; i < count; ++i) mine.push_back(std::make_unique<Mine>(*this));
        Team team(count);
        together(count, [&](Index) {
            const Index number = team.enter();
            if (number >= 0) work(team, number, *mine[std::size_t(number)]);
        });
    }

  private:
    static constexpr Index kParts = 8;
    static constexpr Index kSummed = 32;  // rows of D summed while they are near

    // What one thread needs for itself.
    struct Mine {
        explicit Mine(const Online& o)
            : first(0),
              last(0),
              credit(1, o.rows),
              readout(o.c.batch, o.nodes),
              small(1, (o.c.hidden / kParts + 2 * kRows) * (o.c.inputs + 2)) {}
        Index first, last;      // its parts
        std::uint64_t round = 0;
        Rows<T> credit;         // what a copy's change of the loss is worth, by copy and sample
        Rows<T> readout;        // -lr times the signal at the outputs
        T weight_credit = 0;    // -lr sum_b c_b / sigma
        Rows<T> small;          // weight noise of the part's columns beside W
    };

    Index padded_units() const { return (c.hidden + kRows - 1) / kRows * kRows; }
    bool worth_sharing() const { return double(c.hidden) * double(m.stride) * double(rows) > 5e3; }
    Index first_block(Index part, Index blocks) const { return part * blocks / kParts; }
    Index first_unit(Index part) const {
        const Index unit = first_block(part, m.blocks) * kRows;
        return unit < c.hidden ? unit : c.hidden;
    }
    Index valid_rows(Index unit, Index all) const { return all - unit < kRows ? all - unit : kRows; }

    template <class Body>
    void each_part(const Mine& mine, const Body& body) {
        for (Index part = mine.first; part < mine.last; ++part) body(part);
    }
    template <class Body>
    void each_block(Index part, const Rows<T>& matrix, const Body& body) {
        const Index last = first_block(part + 1, matrix.blocks);
        for (Index b = first_block(part, matrix.blocks); b < last; ++b)
            body(b * kRows, valid_rows(b * kRows, matrix.rows));
    }
    template <class Body>
    void each_own(Index part, const Body& body) {  // every vector of the part's units
        const Index first = first_unit(part);
        each_vector<T>(first_unit(part + 1) - first,
                       [&](Index j, auto which) { body(first + j, which); });
    }

    void work(Team& team, Index number, Mine& mine) {
        mine.first = number * kParts / team.size();
        mine.last = (number + 1) * kParts / team.size();
        const bool decorrelates = c.decorrelation != nullptr;
        each_part(mine, [&](Index part) { begin(part); });
        team.meet(mine.round);
        each_part(mine, [&](Index part) { enter_first(part); });
        team.meet(mine.round);
        for (Index t = 0; t < c.steps; ++t) {
            each_part(mine, [&](Index part) { move(part, t, mine); });
            team.meet(mine.round);
            if (decorrelates) {
                each_part(mine, [&](Index part) { decorrelate(part, t); });
                team.meet(mine.round);
            }
            each_part(mine, [&](Index part) { read(part, t, mine); });
            team.meet(mine.round);
            judge(t, number == 0, mine);
            each_part(mine, [&](Index part) { signals(part, t, mine); });
            if (decorrelates) {
                team.meet(mine.round);
                if (c.kind == Learning::bp1)
                    each_part(mine, [&](Index part) { back_signals(part); });
            }
        }
        team.meet(mine.round);  // bp1 reads all of U for its signals
        each_part(mine, [&](Index part) { end(part, mine); });
    }

    Rows<T>& entering_at(Index t) { return entering[(t + 3) % 3]; }
    Rows<T>& features_at(Index t) { return features[(t + 2) % 2]; }

    // --- before and after ----------------------------------------------------------------------

    void begin(Index part) {
        each_block(part, m, [&](Index first, Index valid) {
            for (Index i = first; i < first + valid; ++i) {
                copy(c.hh + i * c.hidden, c.hidden, m.row(i));
                copy(c.ih + i * c.inputs, c.inputs, m.row(i) + c.hidden);
                if (biases) {
                    m.row(i)[c.hidden + c.inputs] = c.b_ih[i];
                    m.row(i)[c.hidden + c.inputs + 1] = c.b_hh[i];
                }
                if (c.decorrelation) copy(c.decorrelation + i * c.hidden, c.hidden, d.row(i));
                for (Index b = 0; c.trace && b < c.batch; ++b) load_trace(b, i);
            }
        });
        each_block(part, u, [&](Index first, Index valid) {
            for (Index o = first; o < first + valid; ++o) {
                copy(c.readout + o * c.hidden, c.hidden, u.row(o));
                if (c.readout_bias) u.row(o)[c.hidden] = c.readout_bias[o];
            }
        });
        const Index first = first_unit(part), count = first_unit(part + 1) - first;
        for (Index b = 0; b < c.batch; ++b) {
            copy(c.h + b * c.hidden + first, count, h.row(b) + first);
            if (c.noisy) copy(c.noisy + b * c.hidden + first, count, h.row(c.batch + b) + first);
        }
        if (part == 0) {
            for (Index r = 0; r < moving; ++r)
                for (Rows<T>& pre : entering)
                    for (Index k = 0; k < biases; ++k) pre.row(r)[c.hidden + c.inputs + k] = 1;
            for (Index r = 0; r < rows; ++r)
                for (Rows<T>& f : features)
                    if (c.readout_bias) f.row(r)[c.hidden] = 1;
            enter_inputs(0);
        }
        draw(part, 0);
    }

    void enter_first(Index part) {
        Rows<T>& pre = entering_at(0);
        if (c.decorrelation)
            enter_decorrelated(part, pre);
        else
            each_own(part, [&](Index j, auto which) {
                for (Index r = 0; r < moving; ++r)
                    store(pre.row(r) + j, load(h.row(r) + j, which), which);
            });
    }

    void end(Index part, const Mine& mine) {
        each_block(part, m, [&](Index first, Index valid) {
            if (c.steps) learn_block(first, c.steps, mine);
            if (c.steps && c.decorrelation && !c.preserve) learn_decorrelation(first);
            for (Index i = first; i < first + valid; ++i) {
                copy(m.row(i), c.hidden, c.hh + i * c.hidden);
                copy(m.row(i) + c.hidden, c.inputs, c.ih + i * c.inputs);
                if (biases) {
                    c.b_ih[i] = m.row(i)[c.hidden + c.inputs];
                    c.b_hh[i] = m.row(i)[c.hidden + c.inputs + 1];
                }
                if (c.decorrelation) copy(d.row(i), c.hidden, c.decorrelation + i * c.hidden);
                for (Index b = 0; c.trace && b < c.batch; ++b) save_trace(b, i);
            }
        });
        each_block(part, u, [&](Index first, Index valid) {
            if (c.steps) learn_readout(first, c.steps, mine);
            for (Index o = first; o < first + valid; ++o) {
                copy(u.row(o), c.hidden, c.readout + o * c.hidden);
                if (c.readout_bias) c.readout_bias[o] = u.row(o)[c.hidden];
            }
        });
        const Index first = first_unit(part), count = first_unit(part + 1) - first;
        for (Index b = 0; b < c.batch; ++b) {
            copy(h.row(b) + first, count, c.h + b * c.hidden + first);
            if (c.noisy) copy(h.row(c.batch + b) + first, count, c.noisy + b * c.hidden + first);
        }
    }

    static void copy(const T* from, Index count, T* to) {
        std::memcpy(to, from, std::size_t(count) * sizeof(T));
    }

    // Outside, a trace has one column for both biases.
    Index trace_width() const { return c.hidden + c.inputs + (biases ? 1 : 0); }
    T* trace_row(Index b, Index i) const { return trace.row(b * padded_units() + i); }
    void load_trace(Index b, Index i) {
        const T* from = c.trace + (b * c.hidden + i) * trace_width();
        copy(from, trace_width(), trace_row(b, i));
        if (biases) trace_row(b, i)[trace_width()] = from[trace_width() - 1];
    }
    void save_trace(Index b, Index i) {
        copy(trace_row(b, i), trace_width(), c.trace + (b * c.hidden + i) * trace_width());
    }

    // --- a step --------------------------------------------------------------------------------

    void enter_inputs(Index t) {
        for (Index r = 0; r < moving; ++r)
            copy(c.x + (t * c.batch + r % c.batch) * c.inputs, c.inputs,
                 entering_at(t).row(r) + c.hidden);
    }

    Key key_of(Index t, std::uint32_t place) const {
        return noise_key(c.seed, c.first_step + t, place);
    }

    // The noise of step t at the nodes, some of it: the parts share its groups.
    void draw(Index part, Index t) {
        if (c.kind != Learning::np && c.kind != Learning::anp) return;
        const Index count = c.directions * c.batch * c.hidden,
                    groups = (count + kNoiseGroup - 1) / kNoiseGroup;
        const Index first = part * groups / kParts * kNoiseGroup,
                    end = (part + 1) * groups / kParts * kNoiseGroup,
                    last = end < count ? end : count;
        if (first < last)
            fill_noise<T>(key_of(t, 0), first, last, last - first, noise[t % 2].begin() + first,
                          0);
        if (part == 0)
            fill_noise<T>(key_of(t, 1), 0, c.directions * c.batch * c.outputs,
                          c.directions * c.batch * c.outputs, readout_noise[t % 2].begin(), 0);
    }

    // Copy k carries the noise of direction k, or beyond the last direction its mirror image.
    T sign(Index k) const { return k < c.directions ? T(1) : T(-1); }
    const T* noise_of(const Rows<T>& drawn, Index k, Index b, Index width) const {
        return drawn.begin() + (k % c.directions * c.batch + b) * width;
    }

    // Pre-activations and states of the part's units, after the weights have learned from step t - 1.
    void move(Index part, Index t, Mine& mine) {
        const Rows<T>& pre = entering_at(t);
        if (c.kind == Learning::wp) draw_small(part, t, mine);
        each_block(part, m, [&](Index first, Index valid) {
            if (t) learn_block(first, t, mine);
            T* out = a.begin() + first;
            if (c.kind == Learning::wp) {
                draw_block(part, first, valid, t, mine);
                shaken_dots<T>(m.row(first), m_noise.row(first), c.sigma, m.stride,
                               {pre.begin(), m.stride, moving}, valid, out, units);
            } else {
                dots<T>(m.row(first), m.stride, {pre.begin(), m.stride, moving}, valid, out, units);
            }
        });
        for (Index b = 0; b < c.batch; ++b) activate(part, t, b);
    }

    void activate(Index part, Index t, Index b) {
        const bool traces = c.kind == Learning::bp1 || c.kind == Learning::rflo;
        const T keep = 1 - c.gain;
        for (Index k = copies; k-- > 0;) shake(part, t, b, k);  // while h is that of the step before
        each_own(part, [&](Index j, auto which) {
            const Vec<T> active = tanh<T>(load(a.row(b) + j, which));
            publish(t, b, j, which, fma(load(h.row(b) + j, which), broadcast(keep), active * c.gain));
            if (traces) store(slope.row(b) + j, (T(1) - active * active) * c.gain, which);
        });
    }

    // A noisy copy of sequence b: from its own state, or from the clean one.
    void shake(Index part, Index t, Index b, Index k) {
        const bool shakes = c.kind != Learning::wp, measures = c.kind == Learning::anp;
        const Index r = (1 + k) * c.batch + b, from = c.noisy ? r : b;
        const T* xi = noise_of(noise[t % 2], k, b, c.hidden);
        const T keep = 1 - c.gain, sigma = sign(k) * c.sigma;
        Vec<T> squares = {};
        each_own(part, [&](Index j, auto which) {
            Vec<T> other = load(a.row(from) + j, which);
            if (shakes) other = fma(load(xi + j, which), broadcast(sigma), other);
            publish(t, r, j, which,
                    fma(load(h.row(from) + j, which), broadcast(keep), tanh<T>(other) * c.gain));
            if (!measures) return;
            const Vec<T> moved = other - load(a.row(b) + j, which);
            store(delta.row(r - c.batch) + j, moved, which);
            squares = fma(moved, moved, squares);
        });
        T sum = 0;
        for (Index lane = 0; lane < kLanes<T>; ++lane) sum += squares[lane];
        norms[t % 2].row(part)[r] = sum;
    }

    template <class Which>
    void publish(Index t, Index r, Index j, Which which, Vec<T> state) {
        store(h.row(r) + j, state, which);
        if (c.decorrelation) return;
        store(features_at(t).row(r) + j, state, which);
        if (r < moving) store(entering_at(t + 1).row(r) + j, state, which);
    }

    // h* of the part's units, after D has learned from step t - 1; and the part's share of h*^T D.
    void decorrelate(Index part, Index t) {
        Rows<T>& f = features_at(t);
        Index summed = first_unit(part);
        clear(carried_parts, part);
        each_block(part, d, [&](Index first, Index valid) {
            if (t && !c.preserve) learn_decorrelation(first);
            dots<T>(d.row(first), d.stride, {h.begin(), units, rows}, valid, f.begin() + first,
                    f.stride);
            const Index end = first + valid;
            if (end - summed < kSummed && end < first_unit(part + 1)) return;
            sum_rows<T>(d.row(summed), d.stride, end - summed,
                        {f.begin() + summed, f.stride, c.batch}, carried_parts.row(part * c.batch),
                        d.stride);
            summed = end;
        });
    }

    void clear(const Rows<T>& parts, Index part) {
        std::memset(parts.row(part * c.batch), 0, std::size_t(c.batch * parts.stride) * sizeof(T));
    }

    // Outputs, and what else waits for all of h*.
    void read(Index part, Index t, Mine& mine) {
        const Rows<T>& f = features_at(t);
        if (t + 1 < c.steps) {
            if (part == 0) enter_inputs(t + 1);
            draw(part, t + 1);
        }
        if (c.decorrelation) {
            const Index vectors = d.stride / kLanes<T>, first = part * vectors / kParts * kLanes<T>,
                        last = (part + 1) * vectors / kParts * kLanes<T>;
            for (Index b = 0; b < c.batch; ++b) sum_parts(carried_parts, b, first, last, carried.row(b));
            for (Index b = part; b < c.batch; b += kParts)
                for (Index r = 0; r < moving; ++r) gram.row(b)[r] = dot(f.row(b), f.row(r));
        }
        each_block(part, u, [&](Index first, Index valid) {
            if (t) learn_readout(first, t, mine);
            T* out = beta.begin() + first;
            if (c.kind == Learning::wp) {
                draw_readout(first, valid, t);
                shaken_dots<T>(u.row(first), u_noise.row(first), c.sigma, u.stride,
                               {f.begin(), u.stride, rows}, valid, out, nodes);
            } else {
                dots<T>(u.row(first), u.stride, {f.begin(), u.stride, rows}, valid, out, nodes);
            }
        });
    }

    void sum_parts(const Rows<T>& parts, Index b, Index first, Index last, T* out) {
        for (Index j = first; j < last; j += kLanes<T>) {
            Vec<T> sum = load(parts.row(b) + j);
            for (Index p = 1; p < kParts; ++p) sum += load(parts.row(p * c.batch + b) + j);
            store(out + j, sum);
        }
    }

    T dot(const T* x, const T* y) {  // over the units
        Vec<T> sum = {};
        each_vector<T>(c.hidden, [&](Index j, auto which) {
            sum = fma(load(x + j, which), load(y + j, which), sum);
        });
        T total = 0;
        for (Index lane = 0; lane < kLanes<T>; ++lane) total += sum[lane];
        return total;
    }

    // Losses, credit and the readout's signal: every thread for itself.
    void judge(Index t, bool tells, Mine& mine) {
        const T share = T(1) / T(c.outputs * c.batch);
        T total = 0, all = 0;
        for (Index b = 0; b < c.batch; ++b) {
            const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
            T loss = 0;
            for (Index o = 0; o < c.outputs; ++o) {
                const T error = out[o] - y[o];
                loss += error * error;
                mine.readout.row(b)[o] = noisy ? T(0) : -2 * c.lr * error * share;
                if (tells) c.out[(t * c.batch + b) * c.outputs + o] = out[o];
            }
            total += loss;
            for (Index k = 0; k < copies; ++k) all += reward(t, b, k, loss, mine);
        }
        mine.weight_credit = -c.lr * all * share / c.sigma;
        if (tells) c.losses[t] = total * share;
    }

    // What noise did to the loss of copy k of sequence b; its credit, and its part of the readout's signal.
    T reward(Index t, Index b, Index k, T loss, Mine& mine) {
        const bool measures = c.kind == Learning::anp;
        const Index r = (1 + k) * c.batch + b;
        const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b), *other = beta.row(r);
        const T *nu = noise_of(readout_noise[t % 2], k, b, c.outputs), by = sign(k);
        const T sigma = c.kind == Learning::wp ? T(0) : by * c.sigma;
        T change = -loss, square = 0;
        for (Index part = 0; part < kParts; ++part) square += norms[t % 2].row(part)[r];
        for (Index o = 0; o < c.outputs; ++o) {
            const T made = other[o] + sigma * nu[o];
            change += (made - y[o]) * (made - y[o]);
            square += (made - out[o]) * (made - out[o]);
        }
        const T worth = -c.lr * change / T(c.outputs * c.batch * copies);
        T credit = by * worth / c.sigma;
        if (measures) credit = square > 0 ? T(c.hidden + c.outputs) * worth / square : T(0);
        mine.credit.begin()[r] = credit;
        for (Index o = 0; o < c.outputs; ++o)
            mine.readout.row(b)[o] += credit * (measures ? other[o] + sigma * nu[o] - out[o] : nu[o]);
        return change;
    }

    // What the part's units are to learn from this step, and what D' lets them send into the next.
    void signals(Index part, Index t, Mine& mine) {
        for (Index b = 0; b < c.batch && c.kind != Learning::wp; ++b) {
            const T* error = mine.readout.row(b);
            each_own(part, [&](Index j, auto which) {
                T* out = delta.row(b) + j;
                if (noisy) {
                    Vec<T> sum = {};
                    for (Index k = 0; k < copies; ++k) {
                        const T* from = c.kind == Learning::np
                                            ? noise_of(noise[t % 2], k, b, c.hidden) + j
                                            : delta.row(k * c.batch + b) + j;
                        const T by = mine.credit.begin()[(1 + k) * c.batch + b];
                        sum = fma(load(from, which), broadcast(by), sum);
                    }
                    store(out, sum, which);
                } else if (c.kind == Learning::bp1) {
                    Vec<T> signal = {};
                    for (Index o = 0; o < c.outputs; ++o)
                        signal = fma(load(u.row(o) + j, which), broadcast(error[o]), signal);
                    if (!c.decorrelation) signal *= load(slope.row(b) + j, which);
                    store(out, signal, which);
                }
            });
            if (c.kind == Learning::rflo) project(part, b, error);
        }
        if (c.decorrelation && c.kind == Learning::bp1) {
            const Index first = first_unit(part);
            clear(back_parts, part);
            sum_rows<T>(d.row(first), d.stride, first_unit(part + 1) - first,
                        {delta.begin() + first, units, c.batch}, back_parts.row(part * c.batch),
                        d.stride);
        }
        if (!c.decorrelation) return;
        plan_decorrelation(part, t);
        if (c.preserve) {
            each_block(part, d, [&](Index first, Index) { learn_preserving(first); });
            enter_decorrelated(part, entering_at(t + 1));
        } else {
            enter_corrected(part, t);
        }
    }

    void project(Index part, Index b, const T* error) {
        for (Index i = first_unit(part); i < first_unit(part + 1); ++i) {
            T signal = 0;
            for (Index o = 0; o < c.outputs; ++o) signal += c.feedback[i * c.outputs + o] * error[o];
            delta.row(b)[i] = c.trace ? signal : signal * slope.row(b)[i];
        }
    }

    // bp1 under D: the signal at h is D^T times that at h*.
    void back_signals(Index part) {
        for (Index b = 0; b < c.batch; ++b)
            each_own(part, [&](Index j, auto which) {
                Vec<T> sum = {};
                for (Index p = 0; p < kParts; ++p)
                    sum += load(back_parts.row(p * c.batch + b) + j, which);
                store(delta.row(b) + j, sum * load(slope.row(b) + j, which), which);
            });
    }

    // --- learning, four rows at a time ---------------------------------------------------------

    // What step t - 1 has left for these rows of M.
    void learn_block(Index first, Index t, const Mine& mine) {
        const Rows<T>& pre = entering_at(t - 1);
        T* block = m.row(first);
        if (c.kind == Learning::wp)
            learn_noise(block, m_noise.row(first), m.stride, mine);
        else if (c.trace)
            learn_traced(first, pre);
        else
            learn<T>(block, m.stride, nullptr, {delta.begin() + first, units, c.batch},
                     {pre.begin(), m.stride, c.batch});
    }

    void learn_traced(Index first, const Rows<T>& pre) {
        const Vec<T> keep = broadcast(T(1 - c.gain));
        for (Index i = first; i < first + kRows; ++i)
            for (Index b = 0; b < c.batch; ++b) {
                const Vec<T> rise = broadcast(slope.row(b)[i]), by = broadcast(delta.row(b)[i]);
                for (Index j = 0; j < m.stride; j += kLanes<T>) {
                    const Vec<T> entered = load(pre.row(b) + j) * rise;
                    const Vec<T> p = fma(load(trace_row(b, i) + j), keep, entered);
                    store(trace_row(b, i) + j, p);
                    store(m.row(i) + j, fma(p, by, load(m.row(i) + j)));
                }
            }
    }

    void learn_readout(Index first, Index t, const Mine& mine) {
        const Rows<T>& f = features_at(t - 1);
        T* block = u.row(first);
        if (c.kind == Learning::wp)
            learn_noise(block, u_noise.row(first), u.stride, mine);
        else
            learn<T>(block, u.stride, nullptr, {mine.readout.begin() + first, nodes, c.batch},
                     {f.begin(), u.stride, c.batch});
    }

    static void learn_noise(T* block, const T* drawn, Index stride, const Mine& mine) {
        const Vec<T> by = broadcast(mine.weight_credit);
        for (Index j = 0; j < kRows * stride; j += kLanes<T>)
            store(block + j, fma(load(drawn + j), by, load(block + j)));
    }

    // The coefficients of D <- (1 + eps <h*^2>) D - eps <h* (h*^T D)>, row by row.
    void plan_decorrelation(Index part, Index t) {
        const T rate = c.decorrelation_lr / T(c.batch);
        each_own(part, [&](Index j, auto which) {
            Vec<T> sum = {};
            for (Index b = 0; b < c.batch; ++b) {
                const Vec<T> f = load(features_at(t).row(b) + j, which);
                sum = fma(f, f, sum);
                store(correlate.row(b) + j, f * -rate, which);
            }
            store(correlate_scale.begin() + j, fma(sum, broadcast(rate), broadcast(T(1))), which);
        });
    }

    void learn_decorrelation(Index first) {
        learn<T>(d.row(first), d.stride, correlate_scale.begin() + first,
                 {correlate.begin() + first, units, c.batch}, {carried.begin(), d.stride, c.batch});
    }

    void learn_preserving(Index first) {
        T before[kRows];
        for (Index r = 0; r < kRows; ++r) before[r] = dot(d.row(first + r), d.row(first + r));
        learn_decorrelation(first);
        for (Index r = 0; r < kRows; ++r) {
            T* row = d.row(first + r);
            const T after = dot(row, row), by = after > 0 ? std::sqrt(before[r] / after) : T(1);
            for (Index j = 0; j < d.stride; j += kLanes<T>) store(row + j, load(row + j) * by);
        }
    }

    void enter_decorrelated(Index part, Rows<T>& pre) {
        each_block(part, d, [&](Index first, Index valid) {
            dots<T>(d.row(first), d.stride, {h.begin(), units, moving}, valid, pre.begin() + first,
                    pre.stride);
        });
    }

    // D' h = (1 + eps <h*^2>) h* - eps <h* (h*^T h*)> for every pass that goes on.
    void enter_corrected(Index part, Index t) {
        const Rows<T>& f = features_at(t);
        for (Index r = 0; r < moving; ++r)
            each_own(part, [&](Index j, auto which) {
                Vec<T> sum = load(f.row(r) + j, which) * load(correlate_scale.begin() + j, which);
                for (Index b = 0; b < c.batch; ++b)
                    sum = fma(load(correlate.row(b) + j, which), broadcast(gram.row(b)[r]), sum);
                store(entering_at(t + 1).row(r) + j, sum, which);
            });
    }

    // --- noise on weights ----------------------------------------------------------------------

    // The noise of a part's rows of V and its biases, at once: a row alone would waste most of a group.
    void draw_small(Index part, Index t, Mine& mine) {
        const Index first = first_unit(part), last = first_unit(part + 1);
        T* out = mine.small.begin();
        fill_noise<T>(key_of(t, 0), first * c.inputs, last * c.inputs, c.inputs, out, c.inputs);
        out += (last - first) * c.inputs;
        for (Index k = 0; k < biases; ++k, out += last - first)
            fill_noise<T>(key_of(t, std::uint32_t(2 + k)), first, last, last - first, out, 0);
    }

    void draw_block(Index part, Index first, Index valid, Index t, const Mine& mine) {
        const Index start = first_unit(part), own = first_unit(part + 1) - start;
        const T* small = mine.small.begin();
        fill_noise<T>(key_of(t, 1), first * c.hidden, (first + valid) * c.hidden, c.hidden,
                      m_noise.row(first), m.stride);
        for (Index i = first - start; i < first - start + valid; ++i) {
            T* rest = m_noise.row(start + i) + c.hidden;
            copy(small + i * c.inputs, c.inputs, rest);
            for (Index k = 0; k < biases; ++k) rest[c.inputs + k] = small[own * (c.inputs + k) + i];
        }
    }

    void draw_readout(Index first, Index valid, Index t) {
        const std::uint32_t place = std::uint32_t(2 + biases);
        fill_noise<T>(key_of(t, place), first * c.hidden, (first + valid) * c.hidden, c.hidden,
                      u_noise.row(first), u.stride);
        if (c.readout_bias)
            fill_noise<T>(key_of(t, place + 1), first, first + valid, 1,
                          u_noise.row(first) + c.hidden, u.stride);
    }

    const OnlineCall<T>& c;
    const bool noisy;
    const Index copies;        // noisy ones of each sequence
    const Index rows, moving;  // of the batch, clean before noisy; those whose state goes on
    const Index biases;        // columns of biases
    const Index units, nodes;  // room for a row of units, of outputs, and a block more
    Rows<T> m, u, d, m_noise, u_noise, trace;
    Rows<T> entering[3], features[2];  // by step: read now, learned from, written for the next
    Rows<T> h, a, slope, delta, beta;
    Rows<T> correlate, correlate_scale, carried, carried_parts, back_parts, gram;
    Rows<T> norms[2], noise[2], readout_noise[2];  // by step: a fast thread may be one ahead
};

}  // namespace kernels
