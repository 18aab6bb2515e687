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
// the readout is [U, c] and [h*, 1]. A noisy pass that carries its own state is more rows of the same batch.
// Noise that lasts one step needs no row: threads share its copies and take each from the clean
// pre-activations to its outputs, U D h at once, and to what it earns. With D' = (1 - eps C) D the next step
// needs D' h = (1 - eps C) h*, so D h is not computed twice.
//
// Nothing but losses and outputs is written before the end, and where a loss or a weight is no longer finite
// nothing else is written at all: the first loss that is not finite says which step cannot be made.
#pragma once

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "barrier.h"
#include "noise.h"
#include "rows.h"

namespace kernels {

enum class Learning { bp1, rflo, np, anp, wp, anp_authors_code };

template <class T>
struct OnlineCall {
    Learning kind;
    Index threads, steps, batch, inputs, hidden, outputs;
    Index directions;
    bool antithetic, orthogonal, batch_reward, layer_norms, preserve;
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
          measures(call.kind == Learning::anp || call.kind == Learning::anp_authors_code),
          probing(noisy && !call.noisy),
          copies(c.directions * (c.antithetic ? 2 : 1)),
          period(period_of(c.hidden + c.outputs)),
          draws(c.orthogonal ? (c.directions + period - 1) / period : c.directions),
          rows(noisy && !probing ? 2 * c.batch : c.batch),
          biases(c.b_ih ? 2 : 0),
          units(padded<T>(c.hidden + kRows)),
          nodes(padded<T>(c.outputs + kRows)),
          m(c.hidden, c.hidden + c.inputs + biases),
          u(c.outputs, c.hidden + (c.readout_bias ? 1 : 0)),
          d(c.decorrelation ? c.hidden : 0, c.hidden),
          m_noise(c.kind == Learning::wp ? c.hidden : 0, m.stride),
          u_noise(c.kind == Learning::wp ? c.outputs : 0, u.stride),
          trace(c.trace ? c.batch * padded_units() : 0, m.stride),
          entering{{rows, m.stride}, {rows, m.stride}, {rows, m.stride}},
          features{{rows, u.stride}, {rows, u.stride}},
          h(rows, units),
          a(rows, units),
          slope(c.batch, units),
          delta(c.batch, units),
          beta(rows, nodes),
          correlate(c.batch, units),
          correlate_scale(1, units),
          carried(c.batch, d.stride),
          carried_parts(c.decorrelation ? kParts * c.batch : 0, d.stride),
          back_parts(c.decorrelation && c.kind == Learning::bp1 ? kParts * c.batch : 0, d.stride),
          gram(c.batch, rows),
          norms{{kParts, c.batch}, {kParts, c.batch}},
          noise{{draws, c.batch * c.hidden}, {draws, c.batch * c.hidden}},
          readout_noise{{draws, c.batch * c.outputs}, {draws, c.batch * c.outputs}},
          pattern(patterns(), units),
          readout_pattern(patterns(), nodes),
          kept(probing ? c.batch : 0, units),
          ud(probing && c.decorrelation ? c.outputs : 0, d.stride),
          ud_parts(kParts * ud.rows, d.stride),
          earned(probing ? kParts * c.batch : 0, units),
          readout_earned(probing ? kParts * c.batch : 0, nodes) {
        for (Index k = 0; k < patterns(); ++k) {
            for (Index j = 0; j < c.hidden; ++j) pattern.row(k)[j] = hadamard(k, j);
            for (Index o = 0; o < c.outputs; ++o)
                readout_pattern.row(k)[o] = hadamard(k, c.hidden + o);
        }
    }

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
              credit(1, o.c.batch),
              change(3, o.c.batch),
              readout(o.c.batch, o.nodes),
              state(1, o.units),
              made(1, o.nodes),
              small(1, (o.c.hidden / kParts + 2 * kRows) * (o.c.inputs + 2)) {}
        Index first, last;      // its parts
        std::uint64_t round = 0;
        Rows<T> credit;         // what the change of the loss is worth, by sample
        Rows<T> change;         // of the loss, and squared of the hidden nodes and the outputs, by sample
        Rows<T> readout;        // -lr times the signal at the outputs
        Rows<T> state, made;    // of one copy
        T weight_credit = 0;    // -lr sum_b c_b / sigma
        Rows<T> small;          // weight noise of the part's columns beside W
    };

    Index padded_units() const { return (c.hidden + kRows - 1) / kRows * kRows; }
    bool worth_sharing() const {
        const double products = double(m.stride) * double(rows);
        return double(c.hidden) * (products + (probing ? double(copies * c.batch) : 0)) > 5e3;
    }

    // Rows and columns of the Hadamard matrix: as many as there are nodes, or a little more.
    static Index period_of(Index count) {
        Index size = 1;
        while (size < count) size *= 2;
        return size;
    }
    static T hadamard(Index k, Index j) { return __builtin_parityll(k & j) ? T(-1) : T(1); }
    Index patterns() const {
        if (!probing || !c.orthogonal) return 0;
        return c.directions < period ? c.directions : period;
    }
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
            if (probing) {
                each_part(mine, [&](Index part) { probe(part, t, mine); });
                team.meet(mine.round);
            }
            judge(t, number == 0, mine);
            each_part(mine, [&](Index part) { signals(part, t, mine); });
            if (decorrelates) {
                team.meet(mine.round);
                if (c.kind == Learning::bp1)
                    each_part(mine, [&](Index part) { back_signals(part); });
            }
        }
        team.meet(mine.round);  // bp1 reads all of U for its signals
        each_part(mine, [&](Index part) { learn_last(part, mine); });
        if (number == 0)
            for (Index t = 0; t < c.steps; ++t) note(std::isfinite(c.losses[t]));
        team.meet(mine.round);
        if (!broken.load())
            each_part(mine, [&](Index part) { end(part); });
        else if (number == 0)  // weights may be what is not finite
            c.losses[c.steps - 1] = std::numeric_limits<T>::quiet_NaN();
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
            for (Index r = 0; r < rows; ++r)
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
                for (Index r = 0; r < rows; ++r)
                    store(pre.row(r) + j, load(h.row(r) + j, which), which);
            });
    }

    // What the last step has left to learn.
    void learn_last(Index part, const Mine& mine) {
        if (!c.steps) return;
        each_block(part, m, [&](Index first, Index valid) {
            learn_block(first, c.steps, mine);
            if (c.decorrelation && !c.preserve) learn_decorrelation(first);
            note(is_finite(m, first, valid) && (!c.decorrelation || is_finite(d, first, valid)));
        });
        each_block(part, u, [&](Index first, Index valid) {
            learn_readout(first, c.steps, mine);
            note(is_finite(u, first, valid));
        });
    }

    void note(bool finite) {
        if (!finite) broken.store(true);
    }

    // 0 x is 0 for whatever is finite.
    static bool is_finite(const Rows<T>& matrix, Index first, Index rows) {
        Vec<T> sum = {};
        const T *from = matrix.row(first), *end = from + rows * matrix.stride;
        for (; from < end; from += kLanes<T>) sum = fma(load(from), Vec<T>{}, sum);
        T all = 0;
        for (Index lane = 0; lane < kLanes<T>; ++lane) all += sum[lane];
        return all == 0;
    }

    void end(Index part) {
        each_block(part, m, [&](Index first, Index valid) {
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
        for (Index r = 0; r < rows; ++r)
            copy(c.x + (t * c.batch + r % c.batch) * c.inputs, c.inputs,
                 entering_at(t).row(r) + c.hidden);
    }

    Key key_of(Index t, std::uint32_t place) const {
        return noise_key(c.seed, c.first_step + t, place);
    }

    // The noise of step t at the nodes, some of it: the parts share its groups.
    void draw(Index part, Index t) {
        if (!noisy || c.kind == Learning::wp) return;
        const Index count = draws * c.batch * c.hidden,
                    groups = (count + kNoiseGroup - 1) / kNoiseGroup;
        const Index first = part * groups / kParts * kNoiseGroup,
                    end = (part + 1) * groups / kParts * kNoiseGroup;
        draw_some(key_of(t, 0), first, end < count ? end : count, noise[t % 2]);
        if (part == 0) draw_some(key_of(t, 1), 0, draws * c.batch * c.outputs, readout_noise[t % 2]);
    }

    void draw_some(Key key, Index first, Index last, const Rows<T>& to) {
        if (first >= last) return;
        T* out = to.begin() + first;
        fill_noise<T>(key, first, last, last - first, out, 0);
        if (c.orthogonal)  // its sign alone
            for (Index i = 0; i < last - first; ++i) out[i] = std::copysign(T(1), out[i]);
    }

    // Pre-activations and states of the part's units, after the weights have learned from step t - 1.
    void move(Index part, Index t, Mine& mine) {
        const Rows<T>& pre = entering_at(t);
        if (c.kind == Learning::wp) draw_small(part, t, mine);
        if (t && c.decorrelation)  // which U D waits for; without D others may still read U
            each_block(part, u, [&](Index first, Index) { learn_readout(first, t, mine); });
        each_block(part, m, [&](Index first, Index valid) {
            if (t) learn_block(first, t, mine);
            T* out = a.begin() + first;
            if (c.kind == Learning::wp) {
                draw_block(part, first, valid, t, mine);
                shaken_dots<T>(m.row(first), m_noise.row(first), c.sigma, m.stride,
                               {pre.begin(), m.stride, rows}, valid, out, units);
            } else {
                dots<T>(m.row(first), m.stride, {pre.begin(), m.stride, rows}, valid, out, units);
            }
        });
        for (Index b = 0; b < c.batch; ++b) activate(part, t, b);
    }

    void activate(Index part, Index t, Index b) {
        const bool traces = c.kind == Learning::bp1 || c.kind == Learning::rflo;
        const T keep = 1 - c.gain;
        if (noisy && !probing) shake(part, t, b);
        each_own(part, [&](Index j, auto which) {
            const Vec<T> active = tanh<T>(load(a.row(b) + j, which)),
                         stays = load(h.row(b) + j, which) * keep;
            if (probing) store(kept.row(b) + j, stays, which);
            publish(t, b, j, which, fma(active, broadcast(c.gain), stays));
            if (traces) store(slope.row(b) + j, (T(1) - active * active) * c.gain, which);
        });
    }

    // The noisy pass of sequence b, from its own state.
    void shake(Index part, Index t, Index b) {
        const bool shakes = c.kind != Learning::wp;
        const Index r = c.batch + b;
        const T *xi = noise[t % 2].begin() + b * c.hidden, keep = 1 - c.gain;
        Vec<T> squares = {};
        each_own(part, [&](Index j, auto which) {
            Vec<T> other = load(a.row(r) + j, which);
            if (shakes) other = fma(load(xi + j, which), broadcast(c.sigma), other);
            publish(t, r, j, which,
                    fma(load(h.row(r) + j, which), broadcast(keep), tanh<T>(other) * c.gain));
            if (!measures) return;
            const Vec<T> moved = other - load(a.row(b) + j, which);
            store(delta.row(b) + j, moved, which);
            squares = fma(moved, moved, squares);
        });
        norms[t % 2].row(part)[b] = total(squares);
    }

    static T total(Vec<T> lanes) {
        T sum = 0;
        for (Index lane = 0; lane < kLanes<T>; ++lane) sum += lanes[lane];
        return sum;
    }

    template <class Which>
    void publish(Index t, Index r, Index j, Which which, Vec<T> state) {
        store(h.row(r) + j, state, which);
        if (c.decorrelation) return;
        store(features_at(t).row(r) + j, state, which);
        store(entering_at(t + 1).row(r) + j, state, which);
    }

    // h* of the part's units, after D has learned from step t - 1; and the part's share of h*^T D and of U D.
    void decorrelate(Index part, Index t) {
        Rows<T>& f = features_at(t);
        Index summed = first_unit(part);
        clear(carried_parts, part, c.batch);
        if (probing) clear(ud_parts, part, c.outputs);
        each_block(part, d, [&](Index first, Index valid) {
            if (t && !c.preserve) learn_decorrelation(first);
            dots<T>(d.row(first), d.stride, {h.begin(), units, rows}, valid, f.begin() + first,
                    f.stride);
            const Index end = first + valid;
            if (end - summed < kSummed && end < first_unit(part + 1)) return;
            sum_rows<T>(d.row(summed), d.stride, end - summed,
                        {f.begin() + summed, f.stride, c.batch}, carried_parts.row(part * c.batch),
                        d.stride);
            if (probing)
                sum_rows<T>(d.row(summed), d.stride, end - summed,
                            {u.begin() + summed, u.stride, c.outputs},
                            ud_parts.row(part * c.outputs), d.stride);
            summed = end;
        });
    }

    static void clear(const Rows<T>& parts, Index part, Index count) {
        std::memset(parts.row(part * count), 0, std::size_t(count * parts.stride) * sizeof(T));
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
            sum_parts(carried_parts, c.batch, first, last, carried);
            if (probing) sum_parts(ud_parts, c.outputs, first, last, ud);
            for (Index b = part; b < c.batch; b += kParts)
                for (Index r = 0; r < rows; ++r) gram.row(b)[r] = dot(f.row(b), f.row(r));
        }
        each_block(part, u, [&](Index first, Index valid) {
            if (t && !c.decorrelation) learn_readout(first, t, mine);
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

    // Every row of `out` is the sum of the parts' own, over some columns.
    static void sum_parts(const Rows<T>& parts, Index count, Index first, Index last,
                          const Rows<T>& out) {
        for (Index n = 0; n < count; ++n)
            for (Index j = first; j < last; j += kLanes<T>) {
                Vec<T> sum = load(parts.row(n) + j);
                for (Index p = 1; p < kParts; ++p) sum += load(parts.row(p * count + n) + j);
                store(out.row(n) + j, sum);
            }
    }

    T dot(const T* x, const T* y) {  // over the units
        Vec<T> sum = {};
        each_vector<T>(c.hidden, [&](Index j, auto which) {
            sum = fma(load(x + j, which), load(y + j, which), sum);
        });
        return total(sum);
    }

    // --- noise that lasts one step -------------------------------------------------------------

    // The part's copies of the sequences, direction by direction and then their mirror images.
    void probe(Index part, Index t, Mine& mine) {
        clear(earned, part, c.batch);
        clear(readout_earned, part, c.batch);
        const Index all = copies * c.batch, last = (part + 1) * all / kParts;
        for (Index n = part * all / kParts; n < last; ++n)
            probe_copy(part, t, n / c.batch, n % c.batch, mine);
    }

    // From the clean pre-activations of sequence b to the outputs of a copy, and back to what its nodes earn.
    void probe_copy(Index part, Index t, Index copy, Index b, Mine& mine) {
        const Index direction = copy % c.directions, drawn = c.orthogonal ? direction / period : direction,
                    own = drawn * c.batch + b, n = part * c.batch + b;
        const T *xi = noise[t % 2].begin() + own * c.hidden,
                *nu = readout_noise[t % 2].begin() + own * c.outputs;
        const T* signs = c.orthogonal ? pattern.row(direction % period) : nullptr;
        const T* readout_signs = c.orthogonal ? readout_pattern.row(direction % period) : nullptr;
        const T sigma = copy < c.directions ? c.sigma : -c.sigma;
        const auto noise_at = [&](Index j, auto which) {
            const Vec<T> found = load(xi + j, which);
            return signs ? found * load(signs + j, which) : found;
        };
        const auto readout_noise_at = [&](Index o) {
            return readout_signs ? nu[o] * readout_signs[o] : nu[o];
        };

        Vec<T> squares = {};
        each_vector<T>(c.hidden, [&](Index j, auto which) {
            const Vec<T> moved = noise_at(j, which) * sigma;
            squares = fma(moved, moved, squares);
            const Vec<T> active = tanh<T>(load(a.row(b) + j, which) + moved);
            store(mine.state.begin() + j,
                  fma(active, broadcast(c.gain), load(kept.row(b) + j, which)), which);
        });

        const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
        T* made = mine.made.begin();
        T change = 0, read = 0;
        for (Index o = 0; o < c.outputs; ++o) {
            const T* reads = c.decorrelation ? ud.row(o) : u.row(o);
            const T bias = c.readout_bias ? u.row(o)[c.hidden] : T(0);
            made[o] = dot(reads, mine.state.begin()) + bias + sigma * readout_noise_at(o);
            const T moved = made[o] - out[o];
            change += moved * (made[o] + out[o] - 2 * y[o]);
            read += moved * moved;
        }
        const T worth = -c.lr * change / T(c.outputs * c.batch * copies);
        const Credit credit = measures ? measured(worth, total(squares), read)
                                       : Credit{worth / sigma, worth / sigma};
        const T by = measures ? credit.hidden * sigma : credit.hidden;
        each_vector<T>(c.hidden, [&](Index j, auto which) {
            T* to = earned.row(n) + j;
            store(to, fma(noise_at(j, which), broadcast(by), load(to, which)), which);
        });
        for (Index o = 0; o < c.outputs; ++o)
            readout_earned.row(n)[o] += credit.readout * (measures ? made[o] - out[o] : readout_noise_at(o));
    }

    // What a change of the loss is worth to each unit of the change that was measured.
    struct Credit {
        T hidden, readout;
    };
    Credit measured(T worth, T square, T read) const {
        const auto share = [&](Index count, T size) {
            return size > 0 ? T(count) * worth / size : T(0);
        };
        if (c.layer_norms) return {share(c.hidden, square), share(c.outputs, read)};
        const T both = share(c.hidden + c.outputs, square + read);
        return {both, both};
    }

    // Losses, credit and the readout's signal: every thread for itself.
    void judge(Index t, bool tells, Mine& mine) {
        const T share = T(1) / T(c.outputs * c.batch);
        T sum = 0;
        for (Index b = 0; b < c.batch; ++b) {
            const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
            T loss = 0;
            for (Index o = 0; o < c.outputs; ++o) {
                const T error = out[o] - y[o];
                loss += error * error;
                if (!noisy) mine.readout.row(b)[o] = -2 * c.lr * error * share;
                if (tells) c.out[(t * c.batch + b) * c.outputs + o] = out[o];
            }
            sum += loss;
        }
        if (tells) c.losses[t] = sum * share;
        if (probing)
            sum_parts(readout_earned, c.batch, 0, nodes, mine.readout);
        else if (noisy)
            reward(t, share, mine);
    }

    // What noise did to the loss of each sequence; its credit, and its part of the readout's signal.
    void reward(Index t, T share, Mine& mine) {
        T *change = mine.change.row(0), *square = mine.change.row(1), *read = mine.change.row(2);
        const T* nu = readout_noise[t % 2].begin();
        const T sigma = c.kind == Learning::wp ? T(0) : c.sigma;
        const auto made = [&](Index b, Index o) {
            return beta.row(c.batch + b)[o] + sigma * nu[b * c.outputs + o];
        };
        T all = 0, all_square = 0, all_read = 0;
        for (Index b = 0; b < c.batch; ++b) {
            change[b] = square[b] = read[b] = 0;
            const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
            for (Index part = 0; part < kParts; ++part) square[b] += norms[t % 2].row(part)[b];
            for (Index o = 0; o < c.outputs; ++o) {
                const T moved = made(b, o) - out[o];
                change[b] += moved * (made(b, o) + out[o] - 2 * y[o]);
                read[b] += moved * moved;
            }
            all += change[b], all_square += square[b], all_read += read[b];
        }
        mine.weight_credit = -c.lr * all * share / c.sigma;
        for (Index b = 0; b < c.batch && c.kind != Learning::wp; ++b) {
            const T worth = -c.lr * share * (c.batch_reward ? all : change[b]);
            Credit credit{worth / sigma, worth / sigma};
            if (c.kind == Learning::anp) {
                credit = measured(worth, square[b], read[b]);
            } else if (c.kind == Learning::anp_authors_code) {
                const T gain = std::sqrt(T(c.inputs + c.hidden + c.outputs)) / T(c.batch) * worth;
                credit.hidden = all_square > 0 ? gain / all_square : T(0);
                credit.readout = all_read > 0 ? gain / all_read : T(0);
            }
            mine.credit.begin()[b] = credit.hidden;
            for (Index o = 0; o < c.outputs; ++o)
                mine.readout.row(b)[o] =
                    credit.readout *
                    (measures ? made(b, o) - beta.row(b)[o] : nu[b * c.outputs + o]);
        }
    }

    // What the part's units are to learn from this step, and what D' lets them send into the next.
    void signals(Index part, Index t, Mine& mine) {
        for (Index b = 0; b < c.batch && c.kind != Learning::wp; ++b) {
            const T* error = mine.readout.row(b);
            each_own(part, [&](Index j, auto which) {
                T* out = delta.row(b) + j;
                if (probing) {
                    Vec<T> sum = {};
                    for (Index p = 0; p < kParts; ++p)
                        sum += load(earned.row(p * c.batch + b) + j, which);
                    store(out, sum, which);
                } else if (noisy) {
                    const T* from =
                        measures ? out : noise[t % 2].begin() + b * c.hidden + j;
                    store(out, load(from, which) * mine.credit.begin()[b], which);
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
            clear(back_parts, part, c.batch);
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
            dots<T>(d.row(first), d.stride, {h.begin(), units, rows}, valid, pre.begin() + first,
                    pre.stride);
        });
    }

    // D' h = (1 + eps <h*^2>) h* - eps <h* (h*^T h*)> for every pass that goes on.
    void enter_corrected(Index part, Index t) {
        const Rows<T>& f = features_at(t);
        for (Index r = 0; r < rows; ++r)
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
    std::atomic<bool> broken{false};
    const bool noisy, measures;
    const bool probing;   // noise lasts one step
    const Index copies;   // noisy ones of each sequence
    const Index period;   // of the signs of orthogonal directions
    const Index draws;    // of noise for each node
    const Index rows;     // of the batch, clean before noisy
    const Index biases;        // columns of biases
    const Index units, nodes;  // room for a row of units, of outputs, and a block more
    Rows<T> m, u, d, m_noise, u_noise, trace;
    Rows<T> entering[3], features[2];  // by step: read now, learned from, written for the next
    Rows<T> h, a, slope, delta, beta;
    Rows<T> correlate, correlate_scale, carried, carried_parts, back_parts, gram;
    Rows<T> norms[2], noise[2], readout_noise[2];  // by step: a fast thread may be one ahead
    Rows<T> pattern, readout_pattern;              // signs by which directions are orthogonal
    Rows<T> kept, ud, ud_parts;       // (1 - gain) h of the step before; U D, and the parts' shares
    Rows<T> earned, readout_earned;   // by part and sequence: -lr times the signal at the nodes
};

}  // namespace kernels
