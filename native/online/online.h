// A one-layer tanh network that learns at every step of a stream: the loop over the steps, and all that it keeps.
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

#include "../barrier.h"
#include "../noise.h"
#include "../rows.h"
#include "call.h"

namespace kernels {

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

    void note(bool finite) {
        if (!finite) broken.store(true);
    }

    static void copy(const T* from, Index count, T* to) {
        std::memcpy(to, from, std::size_t(count) * sizeof(T));
    }

    // Outside, a trace has one column for both biases.
    Index trace_width() const { return c.hidden + c.inputs + (biases ? 1 : 0); }
    T* trace_row(Index b, Index i) const { return trace.row(b * padded_units() + i); }
    Key key_of(Index t, std::uint32_t place) const {
        return noise_key(c.seed, c.first_step + t, place);
    }

    static void clear(const Rows<T>& parts, Index part, Index count) {
        std::memset(parts.row(part * count), 0, std::size_t(count * parts.stride) * sizeof(T));
    }

    // What a change of the loss is worth to each unit of the change that was measured.
    struct Credit {
        T hidden, readout;
    };

    // --- copies.h ---------------------------------------------------------------------------------------

    void begin(Index part);
    void enter_first(Index part);
    void learn_last(Index part, const Mine& mine);
    static bool is_finite(const Rows<T>& matrix, Index first, Index rows);
    void end(Index part);
    void load_trace(Index b, Index i);
    void save_trace(Index b, Index i);

    // --- forward.h --------------------------------------------------------------------------------------

    void enter_inputs(Index t);
    void draw(Index part, Index t);
    void draw_some(Key key, Index first, Index last, const Rows<T>& to);
    void move(Index part, Index t, Mine& mine);
    void activate(Index part, Index t, Index b);
    void shake(Index part, Index t, Index b);
    static T total(Vec<T> lanes);
    template <class Which> void publish(Index t, Index r, Index j, Which which, Vec<T> state);
    void decorrelate(Index part, Index t);
    void read(Index part, Index t, Mine& mine);
    static void sum_parts(const Rows<T>& parts, Index count, Index first, Index last, const Rows<T>& out);
    T dot(const T* x, const T* y);
    void enter_decorrelated(Index part, Rows<T>& pre);
    void enter_corrected(Index part, Index t);
    void draw_small(Index part, Index t, Mine& mine);
    void draw_block(Index part, Index first, Index valid, Index t, const Mine& mine);
    void draw_readout(Index first, Index valid, Index t);

    // --- credit.h ---------------------------------------------------------------------------------------

    void probe(Index part, Index t, Mine& mine);
    void probe_copy(Index part, Index t, Index copy, Index b, Mine& mine);
    Credit measured(T worth, T square, T read) const;
    void judge(Index t, bool tells, Mine& mine);
    void reward(Index t, T share, Mine& mine);
    void signals(Index part, Index t, Mine& mine);
    void project(Index part, Index b, const T* error);
    void back_signals(Index part);

    // --- update.h ---------------------------------------------------------------------------------------

    void learn_block(Index first, Index t, const Mine& mine);
    void learn_traced(Index first, const Rows<T>& pre);
    void learn_readout(Index first, Index t, const Mine& mine);
    static void learn_noise(T* block, const T* drawn, Index stride, const Mine& mine);
    void plan_decorrelation(Index part, Index t);
    void learn_decorrelation(Index first);
    void learn_preserving(Index first);

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

#include "copies.h"
#include "credit.h"
#include "forward.h"
#include "update.h"
