// A stream that learns at every step: forward, head, credit, optimizer, over buffers of one call.
//
// Threads share the units of every layer and the outputs, and meet after what all of them read. What is
// computed for a unit does not depend on who computes it, so the result does not depend on the number of
// threads. Rows of a batch are copies of its sequences: the clean ones, and those that carry noise.
#pragma once

#include <memory>

#include "../barrier.h"
#include "credit.h"
#include "elementwise.h"
#include "head.h"

namespace kernels {

template <class T>
class Stream {
  public:
    explicit Stream(const StreamCall& call)
        : c(call),
          spread(static_cast<Spread>(call.credit)),
          noisy(!call.peeks && (spread == Spread::nodes || spread == Spread::activity)),
          shaken(!call.peeks && spread == Spread::weights),
          copies(noisy || shaken ? copies_of(call) : 0),
          rows(call.batch * (1 + copies)),
          judge(call),
          groups(reinterpret_cast<const GroupCall*>(call.groups)),
          features(StreamLayer<T>::features_of(call)),
          read_units(call.readout_hidden ? call.readout_hidden : features),
          readout(call.readout, read_units, groups),
          readout_bias(call.readout_bias, call.outputs, groups),
          inner(call.inner, features, groups),
          inner_bias(call.inner_bias, call.readout_hidden, groups),
          hidden_units(call.readout_hidden ? call.batch : 0, call.readout_hidden),
          out(rows, call.outputs),
          readout_noise(room(noisy ? call.directions * call.batch * call.outputs : 0)),
          readout_way(noisy ? copies * call.batch : 0, call.outputs) {
        const LayerCall* own = reinterpret_cast<const LayerCall*>(call.layer);
        for (Index l = 0; l < call.layers; ++l) {
            const Index inputs = l ? features : call.inputs;
            layers.push_back(std::make_unique<StreamLayer<T>>(call, own[l], inputs, rows, groups));
            if (!call.peeks)
                credits.push_back(std::make_unique<LayerCredit<T>>(call, own[l], *layers[l], noisy ? copies : 0));
            noise.emplace_back(room(noisy ? call.directions * call.batch * layers[l]->nodes : 0));
        }
        if (noisy && call.orthogonal) prepare_signs();
        if (shaken) shake_all();
        if (call.clip > 0) prepare_clipping();
    }

    // Returns how many steps were made: the one that would leave numbers that are not finite is not begun.
    Index run() {
        const Index wanted = c.threads;
        Team team(wanted);
        load_states();
        together(wanted, [&](Index) {
            const Index number = team.enter();
            if (number >= 0) work_as(team, number);
        });
        if (!c.peeks) save_states();
        return made;
    }

  private:
    static Index copies_of(const StreamCall& call) { return call.directions * (call.antithetic ? 2 : 1); }

    // What one thread keeps for itself: all threads judge all outputs.
    struct Mine {
        Mine(const Stream& s)
            : losses(1, s.rows), errors(s.c.batch, s.c.outputs),
              inner_errors(s.c.readout_hidden ? s.c.batch : 0, s.c.readout_hidden), worth(s.copies, s.c.batch),
              gains(s.c.layers + 1, s.copies * s.c.batch), gradient(room(kGradientRoom)) {}
        Index from = 0, to = 0, first_output = 0, last_output = 0, number = 0, count = 1;
        Index first_inner = 0, last_inner = 0;  // of the readout's hidden layer
        std::uint64_t round = 0;
        bool counts = false;  // whether an entry of this step does
        Rows<T> losses;       // by row
        Rows<T> errors;       // ∂L/∂outputs of the clean rows, or what stands for it
        Rows<T> inner_errors; // the same before the relu of the readout's hidden units
        Rows<T> worth;        // of each noisy copy's change, by copy and sequence
        Rows<T> gains;        // what a change at the nodes is divided by, by layer (the readout last) and row
        Buffer<T> gradient;   // some rows of one, before weights move along them
    };

    static Buffer<T> room(Index count) { return Buffer<T>(count + 2 * kNoiseGroup); }

    // --- the order of things -------------------------------------------------------------------

    void work_as(Team& team, Index number) {
        Mine mine(*this);
        mine.number = number, mine.count = team.size();
        mine.from = c.hidden * number / mine.count, mine.to = c.hidden * (number + 1) / mine.count;
        mine.first_output = c.outputs * number / mine.count;
        mine.last_output = c.outputs * (number + 1) / mine.count;
        mine.first_inner = c.readout_hidden * number / mine.count;
        mine.last_inner = c.readout_hidden * (number + 1) / mine.count;
        const auto meet = [&] {
            if (mine.count > 1) team.meet(mine.round);
        };
        for (Index t = 0; t < c.steps; ++t) {
            if (noisy || shaken) {
                draw(t, mine);
                meet();
            }
            if (!signs.empty()) {
                turn(mine);
                meet();
            }
            for (Index l = 0; l < c.layers; ++l) forward(l, t, mine, meet);
            if (c.readout_hidden) {
                read_inner(mine);
                meet();
            }
            read(mine);
            meet();
            if (c.peeks) {
                if (number == 0) tell_outputs(t);
                continue;
            }
            weigh(t, mine);
            if (learns() && !is_sound(t, mine)) break;  // as all threads see
            if (number == 0) tell(t, mine);
            if (c.readout_hidden) carry_inner(mine);
            if (!shaken) credit(t, mine, meet);
            meet();  // signals have come down through the weights that learn now
            if (mine.counts) learn(t, mine);
            const bool decorrelates = layers[0]->decorrelation && c.decorrelation_lr > 0;
            for (Index l = 0; decorrelates && l < c.layers; ++l) credits[l]->plan_decorrelation(clean_rows(mine));
            meet();
            for (Index l = 0; decorrelates && l < c.layers; ++l)
                credits[l]->learn_decorrelation(T(c.decorrelation_lr), c.preserves_norm != 0, clean_rows(mine));
            if (mine.counts && !clipped.empty()) {
                learn_clipped(mine);
                meet();
            }
            if (number == 0) {
                if (mine.counts) count_step();
                for (auto& layer : layers) layer->move_on();
                ++made;
            }
            meet();
        }
    }

    Share clean_rows(const Mine& mine) const { return {0, c.batch, mine.from, mine.to}; }

    // --- states --------------------------------------------------------------------------------

    // How many runs of a sequence `states` holds: their noise does not run on with them under all rules.
    Index kept_runs() const {
        const bool nodes = spread == Spread::nodes || spread == Spread::activity;
        return nodes && c.carries ? 1 + copies_of(c) : 1;
    }

    // body(state of torch's, own state) for every row that is carried; a peek takes the clean run's alone.
    template <class Body>
    void each_state(const Body& body) {
        const auto some = [&](Address address, Index runs, Index first_run) {
            T* at = reinterpret_cast<T*>(address);
            const Index kinds = layers[0]->kinds_of_states();
            for (Index b = 0; b < c.batch; ++b)
                for (Index run = 0; run < runs; ++run)
                    for (Index s = 0; s < kinds; ++s)
                        for (Index l = 0; l < c.layers; ++l, at += c.hidden) {
                            const Index row = (first_run + run) * c.batch + b;
                            if (row < rows) body(at, layers[l]->state_before(s, row));
                        }
        };
        some(c.states, kept_runs(), 0);
        if (shaken) some(c.noisy_states, copies, 1);
    }
    void load_states() {
        each_state([&](const T* from, T* to) { std::memcpy(to, from, std::size_t(c.hidden) * sizeof(T)); });
    }
    void save_states() {
        each_state([&](T* to, const T* from) { std::memcpy(to, from, std::size_t(c.hidden) * sizeof(T)); });
    }

    // --- noise ---------------------------------------------------------------------------------

    // A thread's share of a whole step's noise at one place.
    void draw_place(Index t, std::uint32_t place, Index count, T* to, const Mine& mine) const {
        const Index all = (count + kNoiseGroup - 1) / kNoiseGroup;
        const Index first = all * mine.number / mine.count * kNoiseGroup,
                    end = all * (mine.number + 1) / mine.count * kNoiseGroup, last = end < count ? end : count;
        if (first < last)
            fill_noise<T>(noise_key(c.key, c.first_step + t, place), first, last, last - first, to + first, 0);
    }

    void draw(Index t, const Mine& mine) {
        if (noisy) {
            for (Index l = 0; l <= c.layers; ++l) {
                T* to = signs.empty() ? noise_in(l) : signs[l].drawn.get();
                draw_place(t, std::uint32_t(l), draws() * c.batch * width_of(l), to, mine);
            }
        } else {
            const Index count = Index(shakes.size());
            for (Index d = 0; d < c.directions; ++d)
                for (Index p = 0; p < count; ++p)
                    draw_place(t, std::uint32_t(d * count + p), shakes[p].size, shakes[p].drawn[d].get(), mine);
        }
    }

    // Of a place: a layer, or behind the last one the readout.
    Index width_of(Index place) const { return place < c.layers ? layers[place]->nodes : c.outputs; }
    T* noise_in(Index place) const { return place < c.layers ? noise[place].get() : readout_noise.get(); }

    // Directions that are orthogonal: random signs of every node, times a row of a Hadamard matrix.
    struct Signs {
        Buffer<T> drawn;
        Rows<T> pattern;
    };

    Index period() const {
        Index nodes = 0, size = 1;
        for (Index place = 0; place <= c.layers; ++place) nodes += width_of(place);
        while (size < nodes) size *= 2;
        return size;
    }
    Index draws() const { return signs.empty() ? c.directions : (c.directions + period() - 1) / period(); }

    void prepare_signs() {
        const Index all = period(), patterns = c.directions < all ? c.directions : all;
        Index first = 0;
        for (Index place = 0; place <= c.layers; first += width_of(place++)) {
            const Index width = width_of(place);
            Rows<T> pattern(patterns, width);
            for (Index k = 0; k < patterns; ++k)
                for (Index j = 0; j < width; ++j)
                    pattern.row(k)[j] = __builtin_parityll(k & (first + j)) ? T(-1) : T(1);
            signs.push_back({room((c.directions + all - 1) / all * c.batch * width), std::move(pattern)});
        }
    }

    // Noise from what was drawn: a thread's share of the directions.
    void turn(const Mine& mine) {
        const Index all = period();
        for (Index place = 0; place <= c.layers; ++place) {
            const Index width = width_of(place), patterns = signs[place].pattern.rows;
            const Index last = c.directions * (mine.number + 1) / mine.count;
            for (Index k = c.directions * mine.number / mine.count; k < last; ++k)
                for (Index b = 0; b < c.batch; ++b) {
                    const T* drawn = signs[place].drawn.get() + (k / all * c.batch + b) * width;
                    const T* pattern = signs[place].pattern.row(k % patterns);
                    T* to = noise_in(place) + (k * c.batch + b) * width;
                    each_vector<T>(width, [&](Index j, auto which) {
                        const Vec<T> sign = load(pattern + j, which);
                        store(to + j, load(drawn + j, which) < 0 ? -sign : sign, which);
                    });
                }
        }
    }

    // The noise at the nodes of row (1 + copy) · b: copies beyond the directions carry its mirror image.
    NodeNoise<T> noise_at(const T* at, Index width, Index row) const {
        const Index n = row - c.batch;
        if (!noisy || n < 0) return {nullptr, T(0)};
        const Index drawn = c.directions * c.batch;
        return {at + n % drawn * width, n < drawn ? T(c.sigma) : T(-c.sigma)};
    }

    // --- forward -------------------------------------------------------------------------------

    template <class Meet>
    void forward(Index l, Index t, const Mine& mine, const Meet& meet) {
        StreamLayer<T>& layer = *layers[l];
        if (noisy && !c.carries) begin_clean(layer, mine, meet);
        const auto noise_of = [&](Index r) { return noise_at(noise[l].get(), layer.nodes, r); };
        const Index runs = shaken ? 1 + copies : 1;  // each with weights of its own, or all with the same
        const auto each_run = [&](const auto& body) {
            for (Index run = 0; run < runs; ++run) {
                const Index first = run * c.batch, count = shaken ? c.batch : rows;
                body(run ? shaken_weights(l, run - 1, mine) : layer.weights, Share{first, count, mine.from, mine.to});
            }
        };
        if (layer.decorrelation) {
            layer.decorrelate(layer.before(), layer.entering, {0, rows, mine.from, mine.to});
            meet();
        }
        each_run([&](const T* const (&w)[4], const Share& share) {
            drive(layer, l, t, w, share);
            if (layer.has_units)
                on_units(layer, [&](const auto& units) { units.step(w[kBih], share); });
            else if (layer.reset_before())
                layer.reset(w, share, noise_of);
            else
                layer.activate(w, share, noise_of);
        });
        meet();
        if (layer.reset_before()) {
            each_run([&](const T* const (&w)[4], const Share& share) {
                layer.drive_candidate(w, share);
                layer.activate(w, share, noise_of);
            });
            meet();
        }
        if (layer.decorrelation) {
            layer.decorrelate(layer.after(), layer.leaving, {0, rows, mine.from, mine.to});
            meet();
        }
    }

    void drive(StreamLayer<T>& layer, Index l, Index t, const T* const (&w)[4], const Share& share) {
        if (l) {
            const Rows<T>& below = layers[l - 1]->leaves();
            return layer.drive(w, below.row(share.first), below.stride, share);
        }
        const T* x = reinterpret_cast<const T*>(c.x) + t * c.batch * c.inputs;
        for (Index first = 0; first < share.rows; first += c.batch)  // every copy sees the same inputs
            layer.drive(w, x, c.inputs, share.of_rows(share.first + first, c.batch));
    }

    // Noise that lasts one step begins from the clean states.
    template <class Meet>
    void begin_clean(StreamLayer<T>& layer, const Mine& mine, const Meet& meet) {
        each_unit<T>({c.batch, rows - c.batch, mine.from, mine.to}, [&](Index r, Index j, auto which) {
            store(layer.before().row(r) + j, load(layer.before().row(r % c.batch) + j, which), which);
            if (layer.lstm())
                store(layer.cell_before().row(r) + j, load(layer.cell_before().row(r % c.batch) + j, which), which);
        });
        meet();
    }

    // What the output weights see: the readout's hidden units, or the top layer itself.
    const Rows<T>& read_from() const { return c.readout_hidden ? hidden_units : layers.back()->leaves(); }

    // relu(W₁ f + b₁) of a thread's share of the readout's hidden units.
    void read_inner(const Mine& mine) {
        const Rows<T>& top = layers.back()->leaves();
        const Index first = mine.first_inner, count = mine.last_inner - first;
        multiply(inner.value + first * features, features, count, top.row(0), top.stride, c.batch,
                 hidden_units.row(0) + first, hidden_units.stride, false);
        for (Index b = 0; b < c.batch; ++b) {
            T* own = hidden_units.row(b);
            for (Index m = first; m < first + count; ++m) {
                const T at = own[m] + inner_bias.value[m];
                own[m] = at <= 0 ? T(0) : at;  // what is not a number stays none
            }
        }
    }

    // Back through the output weights and the relu, before these weights learn: by every thread for itself.
    void carry_inner(Mine& mine) const {
        carry_back(readout.value, c.readout_hidden, c.outputs, mine.errors.begin(), mine.errors.stride, c.batch,
                   Index(0), c.readout_hidden, mine.inner_errors.begin(), mine.inner_errors.stride);
        for (Index b = 0; b < c.batch; ++b)
            for (Index m = 0; m < c.readout_hidden; ++m)
                if (!(hidden_units.row(b)[m] > 0)) mine.inner_errors.row(b)[m] = 0;
    }

    void read(const Mine& mine) {
        const Rows<T>& top = read_from();
        const Index first = mine.first_output, count = mine.last_output - first;
        const auto read_rows = [&](const T* u, const T* bias, Index row, Index all) {
            multiply(u + first * read_units, read_units, count, top.row(row), top.stride, all, out.row(row) + first,
                     out.stride, false);
            for (Index r = row; r < row + all; ++r) {
                const NodeNoise<T> own = noise_at(readout_noise.get(), c.outputs, r);
                for (Index o = first; o < first + count; ++o) {
                    if (bias) out.row(r)[o] += bias[o];
                    if (own.at) out.row(r)[o] += own.by * own.at[o];
                }
            }
        };
        if (!shaken) return read_rows(readout.value, readout_bias.value, 0, rows);
        read_rows(readout.value, readout_bias.value, 0, c.batch);
        for (Index copy = 0; copy < copies; ++copy) {
            const Index p = 4 * c.layers;
            const T* u = shake(p, copy, first * c.hidden, count * c.hidden);
            const T* bias = readout_bias.value ? shake(p + 1, copy, first, count) : nullptr;
            read_rows(u, bias, (1 + copy) * c.batch, c.batch);
        }
    }

    // --- the loss ------------------------------------------------------------------------------

    T mask_at(Index t, Index b) const {
        return c.mask ? reinterpret_cast<const T*>(c.mask)[t * c.batch + b] : T(1);
    }

    // Losses, errors, and what each noisy copy's change is worth.
    void weigh(Index t, Mine& mine) {
        T own = 0;
        for (Index b = 0; b < c.batch; ++b)
            if (mask_at(t, b) != 0) own += mask_at(t, b) * judge.weight(t * c.batch + b);
        mine.counts = own > 0;
        const T denominator = c.denominator > 0 ? T(c.denominator) : own;
        for (Index b = 0; b < c.batch; ++b) {
            const T share = mine.counts ? mask_at(t, b) / denominator : T(0);
            T* errors = mine.errors.row(b);
            for (Index run = 0; run < 1 + copies; ++run) {
                const Index r = run * c.batch + b;
                T loss = 0;
                if (share != 0) loss = judge(t * c.batch + b, out.row(r), run ? nullptr : errors) * share;
                mine.losses.begin()[r] = loss;
                if (run) mine.worth.row(run - 1)[b] = (loss - mine.losses.begin()[b]) / T(copies);
            }
            for (Index o = 0; o < c.outputs; ++o) errors[o] = share != 0 ? errors[o] * share : T(0);
        }
        if (!c.batch_reward && !shaken) return;
        for (Index copy = 0; copy < copies; ++copy) {
            T sum = 0;
            for (Index b = 0; b < c.batch; ++b) sum += mine.worth.row(copy)[b];
            for (Index b = 0; b < c.batch; ++b) mine.worth.row(copy)[b] = sum;
        }
    }

    bool learns() const { return static_cast<Descent>(c.optimizer) != Descent::none; }

    // Whether losses and outputs are finite, and what is learned from them and the inputs, squared as Adam does.
    bool is_sound(Index t, const Mine& mine) const {
        T zero = 0, squares = 0, entered = 1;  // 0 x is 0 for whatever is finite
        const T* x = reinterpret_cast<const T*>(c.x) + t * c.batch * c.inputs;
        for (Index i = 0; i < c.batch * c.inputs; ++i) entered += x[i] * x[i];
        for (Index r = 0; r < rows; ++r) {
            zero += 0 * mine.losses.begin()[r];
            for (Index o = 0; o < c.outputs; ++o) zero += 0 * out.row(r)[o];
        }
        for (Index b = 0; b < c.batch; ++b) {
            for (Index o = 0; o < c.outputs; ++o) squares += mine.errors.row(b)[o] * mine.errors.row(b)[o];
            for (Index copy = 0; copy < copies; ++copy) {
                const T worth = c.sigma > 0 ? mine.worth.row(copy)[b] / T(c.sigma) : mine.worth.row(copy)[b];
                squares += worth * worth;
            }
        }
        return zero == 0 && std::isfinite(64 * squares * entered);  // noise is never beyond 8 deviations
    }

    void tell(Index t, const Mine& mine) {
        T sum = 0;
        for (Index b = 0; b < c.batch; ++b) sum += mine.losses.begin()[b];
        reinterpret_cast<T*>(c.losses)[t] = sum;
        tell_outputs(t);
    }
    void tell_outputs(Index t) {
        for (Index b = 0; b < c.batch; ++b)
            std::memcpy(reinterpret_cast<T*>(c.out) + (t * c.batch + b) * c.outputs, out.row(b),
                        std::size_t(c.outputs) * sizeof(T));
    }

    // --- credit --------------------------------------------------------------------------------

    template <class Meet>
    void credit(Index t, Mine& mine, const Meet& meet) {
        const Share share = clean_rows(mine);
        if (noisy) {
            if (spread == Spread::activity) measure(mine);
            ways_of_readout(mine);
            if (c.credit_decay != 0) accumulate_readout(mine);
            for (Index l = 0; l < c.layers; ++l) ways(l, t, mine);
            return;
        }
        for (Index l = c.layers - 1; l >= 0; --l) {
            LayerCredit<T>& own = *credits[l];
            const bool has_units = own.layer.has_units;
            if (spread == Spread::feedback)
                own.project(mine.errors, c.outputs, share);
            else if (l == c.layers - 1 && c.readout_hidden)
                own.carry(inner.value, c.readout_hidden, mine.inner_errors, share);
            else if (l == c.layers - 1)
                own.carry(readout.value, c.outputs, mine.errors, share);
            else
                own.carry(layers[l + 1]->weights[kIh], layers[l + 1]->nodes, credits[l + 1]->delta, share);
            if (own.layer.decorrelation && spread == Spread::exact) {
                meet();
                own.carry_through(share);
            }
            if (has_units) on_units(own.layer, [&](const auto& units) { units.hear(own, share); });
            if (own.traced()) {
                if (has_units)
                    on_units(own.layer, [&](const auto& units) { units.reduce(own, share); });
                else
                    own.reduce(share);
                own.follow(inputs_of(l, t), stride_of(l), share);
            }
            if (!own.traced() || spread == Spread::exact) {
                if (has_units)
                    on_units(own.layer, [&](const auto& units) { units.to_nodes(own, share); });
                else
                    own.to_nodes(share);
                if (own.layer.reset_before()) {
                    meet();
                    own.finish(share);
                }
                if (spread == Spread::exact && l) meet();
            }
        }
    }

    const T* inputs_of(Index l, Index t) const {
        return l ? layers[l - 1]->leaves().begin() : reinterpret_cast<const T*>(c.x) + t * c.batch * c.inputs;
    }
    Index stride_of(Index l) const { return l ? layers[l - 1]->leaves().stride : c.inputs; }

    // N / ‖δα‖² of every noisy row, over all nodes or layer by layer; 0 where nothing has changed.
    void measure(Mine& mine) {
        for (Index n = 0; n < copies * c.batch; ++n) {
            const Index row = c.batch + n, clean = n % c.batch;
            T all = 0, nodes = 0;
            const auto gain = [](T count, T square) { return square > 0 ? count / square : T(0); };
            for (Index l = 0; l <= c.layers; ++l) {
                const Rows<T>& at = l < c.layers ? layers[l]->pre : out;
                const Index width = l < c.layers ? layers[l]->nodes : c.outputs;
                T square = 0;
                for (Index i = 0; i < width; ++i) {
                    const T moved = at.row(row)[i] - at.row(clean)[i];
                    square += moved * moved;
                }
                mine.gains.row(l)[n] = gain(T(width), square);
                all += square, nodes += T(width);
            }
            for (Index l = 0; !c.layer_norms && l <= c.layers; ++l) mine.gains.row(l)[n] = gain(nodes, all);
        }
    }

    // d at the outputs, and Σ c d in place of their error.
    void ways_of_readout(Mine& mine) {
        for (Index b = 0; b < c.batch; ++b)
            for (Index o = 0; o < c.outputs; ++o) mine.errors.row(b)[o] = 0;
        for (Index n = 0; n < copies * c.batch; ++n) {
            const Index b = n % c.batch;
            const NodeNoise<T> drawn = noise_at(readout_noise.get(), c.outputs, c.batch + n);
            const T worth = mine.worth.row(n / c.batch)[b];
            for (Index o = 0; o < c.outputs; ++o) {
                const T way = spread == Spread::activity
                                  ? (out.row(c.batch + n)[o] - out.row(b)[o]) * mine.gains.row(c.layers)[n]
                                  : drawn.at[o] * drawn.by / T(c.sigma * c.sigma);
                if (mine.first_output <= o && o < mine.last_output) readout_way.row(n)[o] = way;
                mine.errors.row(b)[o] += worth * way;
            }
        }
    }

    // d at the nodes of a layer, and δ = Σ c d.
    void ways(Index l, Index t, Mine& mine) {
        LayerCredit<T>& own = *credits[l];
        const StreamLayer<T>& layer = *layers[l];
        const Index hidden = c.hidden;
        const bool kept = c.credit_decay != 0;
        const Share share = clean_rows(mine);
        for (Index n = 0; n < copies * c.batch; ++n) {
            const Index b = n % c.batch, row = c.batch + n;
            const NodeNoise<T> drawn = noise_at(noise[l].get(), layer.nodes, row);
            const T by = spread == Spread::activity ? mine.gains.row(l)[n] : drawn.by / T(c.sigma * c.sigma);
            const T worth = mine.worth.row(n / c.batch)[b];
            for (Index g = 0; g < layer.gates; ++g)
                each_unit<T>({0, 1, share.from, share.to}, [&](Index, Index unit, auto which) {
                    const Index j = g * hidden + unit;
                    Vec<T> way = spread == Spread::activity
                                     ? load(layer.pre.row(row) + j, which) - load(layer.pre.row(b) + j, which)
                                     : load(drawn.at + j, which);
                    way *= by;
                    if (kept) store(own.way.row(n) + j, way, which);
                    T* to = own.delta.row(b) + j;
                    const Vec<T> before = n < c.batch ? Vec<T>{} : load(to, which);
                    store(to, fma(way, broadcast(worth), before), which);
                });
        }
        if (kept)
            own.gate_candidates(own.way, own.way_behind, copies * c.batch, share);
        else
            own.gate_candidates(own.delta, own.behind, c.batch, share);
        if (kept) accumulate(own, t, l, share);
    }

    // E ← λ E + d ⊗ what entered, of every sequence and copy.
    void accumulate(LayerCredit<T>& own, Index t, Index l, const Share& share) {
        const StreamLayer<T>& layer = own.layer;
        const T* x = inputs_of(l, t);
        for (Index n = 0; n < copies * c.batch; ++n) {
            const Index b = n % c.batch, at = b * copies + n / c.batch;
            for (Index g = 0; g < layer.gates; ++g) {
                const Index first = g * c.hidden + share.from, count = share.to - share.from;
                for (Index i = first; i < first + count; ++i) {
                    grow(own.credits[kIh] + (at * layer.nodes + i) * layer.inputs, own.way.row(n)[i],
                         x + b * stride_of(l), layer.inputs);
                    grow(own.credits[kHh] + (at * layer.nodes + i) * c.hidden, own.hidden_way().row(n)[i],
                         own.entered(g).row(b), c.hidden);
                }
                if (!own.credits[kBih]) continue;
                grow(own.credits[kBih] + at * layer.nodes + first, T(1), own.way.row(n) + first, count);
                grow(own.credits[kBhh] + at * layer.nodes + first, T(1), own.hidden_way().row(n) + first, count);
            }
        }
    }
    void accumulate_readout(const Mine& mine) {
        T *weight = address_of(c.readout_credits[0]), *bias = address_of(c.readout_credits[1]);
        const Rows<T>& top = layers.back()->leaves();
        const Index first = mine.first_output, last = mine.last_output;
        for (Index n = 0; n < copies * c.batch; ++n) {
            const Index b = n / copies;
            const T* way = readout_way.row(n % copies * c.batch + b);
            for (Index o = first; o < last; ++o)
                grow(weight + (n * c.outputs + o) * c.hidden, way[o], top.row(b), c.hidden);
            if (bias) grow(bias + n * c.outputs + first, T(1), way + first, last - first);
        }
    }
    static T* address_of(Address address) { return reinterpret_cast<T*>(address); }
    void grow(T* trace, T by, const T* entered, Index count) const {
        const Vec<T> factor = broadcast(by), decay = broadcast(T(c.credit_decay));
        each_vector<T>(count, [&](Index j, auto which) {
            store(trace + j, fma(load(trace + j, which), decay, load(entered + j, which) * factor), which);
        });
    }

    // --- noise on weights ----------------------------------------------------------------------

    // A parameter's noise, and room for what it makes of the parameter.
    struct Shake {
        const T* value;
        Index size;
        std::vector<Buffer<T>> drawn;
        Buffer<T> made;
    };

    // In the order of `network.named_parameters()`; `places` finds them by layer and kind.
    void shake_all() {
        const auto add = [&](const T* value, Index size) {
            places.push_back(value ? Index(shakes.size()) : -1);
            if (!value) return;
            std::vector<Buffer<T>> drawn;
            for (Index d = 0; d < c.directions; ++d) drawn.push_back(room(size));
            shakes.push_back({value, size, std::move(drawn), room(size)});
        };
        for (const auto& layer : layers) {
            add(layer->weights[kIh], layer->nodes * layer->inputs);
            add(layer->weights[kHh], layer->nodes * c.hidden);
            add(layer->weights[kBih], layer->nodes);
            add(layer->weights[kBhh], layer->nodes);
        }
        add(readout.value, c.outputs * c.hidden);
        add(readout_bias.value, c.outputs);
    }

    T sign_of(Index copy) const { return copy < c.directions ? T(1) : T(-1); }

    // Elements [first, first + count) of parameter `place` with a copy's noise on them; the whole of it.
    const T* shake(Index place, Index copy, Index first, Index count) {
        const Shake& own = shakes[places[place]];
        const T *drawn = own.drawn[copy % c.directions].get() + first, *from = own.value + first;
        T* to = own.made.get() + first;
        const Vec<T> by = broadcast(sign_of(copy) * T(c.sigma));
        each_vector<T>(count, [&](Index j, auto which) {
            store(to + j, fma(load(drawn + j, which), by, load(from + j, which)), which);
        });
        return own.made.get();
    }

    struct Weights {
        const T* of[4];
    };
    using FourWeights = const T* const (&)[4];

    FourWeights shaken_weights(Index l, Index copy, const Mine& mine) {
        thread_local Weights made;
        const StreamLayer<T>& layer = *layers[l];
        const Index count = mine.to - mine.from;
        for (int k = 0; k < 4; ++k) {
            made.of[k] = nullptr;
            if (!layer.weights[k]) continue;
            const Index columns = k == kIh ? layer.inputs : k == kHh ? c.hidden : 1;
            for (Index g = 0; g < layer.gates; ++g)
                made.of[k] = shake(4 * l + k, copy, (g * c.hidden + mine.from) * columns, count * columns);
        }
        return made.of;
    }

    // --- learning ------------------------------------------------------------------------------

    // Σ_n factor(n) vector_n: a gradient's row.
    template <class At, class Factor>
    static auto sum_of(Index count, const At& at, const Factor& factor) {
        return [=](Index j, auto which) __attribute__((always_inline)) {
            Vec<T> sum = load(at(0) + j, which) * factor(0);
            for (Index n = 1; n < count; ++n) sum = fma(load(at(n) + j, which), broadcast(T(factor(n))), sum);
            return sum;
        };
    }

    template <class Of>
    void descend_rows(const Mine& mine, const Learner<T>& learner, Index from, Index to, const Of& of) const {
        descend(learner, static_cast<Descent>(c.optimizer), c.optimizer_decouples != 0, from, to, of,
                mine.gradient.get());
    }

    // --- clipping ------------------------------------------------------------------------------

    // A parameter of so many elements whose gradient is written down before it learns.
    struct Clipped {
        const Learner<T>* learner;
        Index size;
        Buffer<T> gradient;
    };

    void prepare_clipping() {
        const auto add = [&](Learner<T>& learner, Index size) {
            if (!learner.group) return;
            clipped.push_back({&learner, size, room(size)});
            learner.gradient = clipped.back().gradient.get();
        };
        for (auto& layer : layers) {
            add(layer->learners[kIh], layer->nodes * layer->inputs);
            add(layer->learners[kHh], layer->has_units ? c.hidden : layer->nodes * c.hidden);
            add(layer->learners[kBih], layer->nodes);
            add(layer->learners[kBhh], layer->has_units ? c.hidden : layer->nodes);
        }
        add(readout, c.outputs * read_units);
        add(readout_bias, c.outputs);
        add(inner, c.readout_hidden * features);
        add(inner_bias, c.readout_hidden);
    }

    // Every thread measures all, and learns its share.
    void learn_clipped(const Mine& mine) const {
        double square = 0;
        for (const Clipped& own : clipped) {
            const T* gradient = own.gradient.get();
            Vec<T> sums = {};
            each_vector<T>(own.size, [&](Index j, auto which) {
                const Vec<T> some = load(gradient + j, which);
                sums = fma(some, some, sums);
            });
            for (Index lane = 0; lane < kLanes<T>; ++lane) square += double(sums[lane]);
        }
        const T scale = T(std::fmin(1.0, c.clip / (std::sqrt(square) + 1e-6)));
        for (const Clipped& own : clipped) {
            const Index first = own.size * mine.number / mine.count;
            const Index count = own.size * (mine.number + 1) / mine.count - first;
            choose_rule(*own.learner, static_cast<Descent>(c.optimizer), c.optimizer_decouples != 0,
                        [&](const auto& rule) {
                            own.learner->learn_by(rule, first, count, own.gradient.get() + first, scale);
                        });
        }
    }

    void learn(Index t, const Mine& mine) {
        if (shaken) return learn_shaken(mine);
        for (Index l = 0; l < c.layers; ++l) {
            if (layers[l]->has_units)
                learn_units(l, t, mine);
            else
                for (Index g = 0; g < layers[l]->gates; ++g) learn_gate(l, g, t, mine);
        }
        learn_readout(mine);
    }

    // V, b and the own parameters of element-wise units: of each trace by each state, or of delta.
    void learn_units(Index l, Index t, const Mine& mine) {
        const StreamLayer<T>& layer = *layers[l];
        const LayerCredit<T>& own = *credits[l];
        const Index states = own.seen_states(), nodes = layer.nodes, inputs = layer.inputs, hidden = c.hidden;
        const Index from = mine.from, count = mine.to - mine.from;
        const Rows<T>&signal = own.signal, &delta = own.delta;
        // Of numbers (b, width), those from `first` on that belong to the units of this thread.
        const auto by_unit = [&](int kind, Index width, Index first, const Rows<T>& direct) {
            if (!layer.learners[kind].group) return;
            const T* const traces[2] = {own.traces[0][kind], own.traces[1][kind]};
            descend_rows(mine, layer.learners[kind].slice(first, count), 0, 1, [&](Index) {
                return [=, &own, &signal, &direct](Index j, auto which) {
                    Vec<T> sum = {};
                    for (Index b = 0; b < c.batch; ++b) {
                        if (!own.traced()) sum += load(direct.row(b) + first + j, which);
                        for (Index s = 0; own.traced() && s < states; ++s)
                            sum = fma(load(traces[s] + b * width + first + j, which),
                                      load(signal.row(b) + s * hidden + from + j, which), sum);
                    }
                    return sum;
                };
            });
        };
        const T* const traces[2] = {own.traces[0][kIh], own.traces[1][kIh]};
        const T* entered = inputs_of(l, t);
        const Index stride = stride_of(l);
        for (Index g = 0; g < layer.gates; ++g) {
            const Index first = g * hidden + from;
            if (own.traced())
                descend_rows(mine, layer.learners[kIh], first, first + count, [&](Index i) {
                    const Index unit = i - g * hidden;
                    return sum_of(c.batch * states,
                                  [=](Index n) { return traces[n % states] + (n / states * nodes + i) * inputs; },
                                  [=, &signal](Index n) { return signal.row(n / states)[n % states * hidden + unit]; });
                });
            else
                descend_rows(mine, layer.learners[kIh], first, first + count, [&](Index i) {
                    return sum_of(c.batch, [=](Index b) { return entered + b * stride; },
                                  [&delta, i](Index b) { return delta.row(b)[i]; });
                });
            by_unit(kBih, nodes, first, delta);
        }
        by_unit(kHh, hidden, from, own.at_own[0]);
        by_unit(kBhh, hidden, from, own.at_own[1]);
    }

    void learn_gate(Index l, Index g, Index t, const Mine& mine) {
        const StreamLayer<T>& layer = *layers[l];
        const LayerCredit<T>& own = *credits[l];
        const Index nodes = layer.nodes, first = g * c.hidden + mine.from, count = mine.to - mine.from, last = first + count;
        for (int k = kIh; k <= kBhh; ++k) {
            const Learner<T>& learner = layer.learners[k];
            if (!learner.group) continue;
            const bool bias = k >= kBih;
            const Index columns = k == kIh ? layer.inputs : c.hidden;
            if (noisy && c.credit_decay != 0) {
                const T* trace = own.credits[k];
                const Index all = copies * c.batch;
                const auto factor = [&](Index n) { return mine.worth.row(n % copies)[n / copies]; };
                if (bias)
                    descend_rows(mine, learner.slice(first, count), 0, 1, [&](Index) {
                        return sum_of(all, [=](Index n) { return trace + n * nodes + first; }, factor);
                    });
                else
                    descend_rows(mine, learner, first, last, [&](Index i) {
                        return sum_of(all, [=](Index n) { return trace + (n * nodes + i) * columns; }, factor);
                    });
            } else if (own.traced()) {
                const T* trace = own.traces[0][k];
                const Rows<T>& signal = own.signal;
                if (bias) {
                    const Index from = mine.from;
                    descend_rows(mine, learner.slice(first, count), 0, 1, [&](Index) {
                        return [&, from](Index j, auto which) {
                            Vec<T> sum = {};
                            for (Index b = 0; b < c.batch; ++b)
                                sum = fma(load(trace + b * nodes + first + j, which),
                                          load(signal.row(b) + from + j, which), sum);
                            return sum;
                        };
                    });
                } else {
                    descend_rows(mine, learner, first, last, [&](Index i) {
                        const Index u = i - g * c.hidden;
                        return sum_of(c.batch, [=](Index b) { return trace + (b * nodes + i) * columns; },
                                      [&signal, u](Index b) { return signal.row(b)[u]; });
                    });
                }
            } else {
                const bool sees_states = k == kHh || k == kBhh;
                const Rows<T>& delta = sees_states ? own.hidden_delta() : own.delta;
                if (bias) {
                    descend_rows(mine, learner.slice(first, count), 0, 1, [&](Index) {
                        return sum_of(c.batch, [&delta, first](Index b) { return delta.row(b) + first; },
                                      [](Index) { return T(1); });
                    });
                    continue;
                }
                const T* entered = sees_states ? own.entered(g).begin() : inputs_of(l, t);
                const Index stride = sees_states ? own.entered(g).stride : stride_of(l);
                descend_rows(mine, learner, first, last, [&](Index i) {
                    return sum_of(c.batch, [=](Index b) { return entered + b * stride; },
                                  [&delta, i](Index b) { return delta.row(b)[i]; });
                });
            }
        }
    }

    void learn_readout(const Mine& mine) {
        if (noisy && c.credit_decay != 0) return learn_kept_readout(mine);
        learn_linear(mine, readout, readout_bias, mine.errors, read_from(), mine.first_output, mine.last_output);
        if (c.readout_hidden)
            learn_linear(mine, inner, inner_bias, mine.inner_errors, layers.back()->leaves(), mine.first_inner,
                         mine.last_inner);
    }

    // Rows [first, last) of W x + b, from the errors at its outputs and from x.
    void learn_linear(const Mine& mine, const Learner<T>& weight, const Learner<T>& bias, const Rows<T>& errors,
                      const Rows<T>& entered, Index first, Index last) const {
        descend_rows(mine, weight, first, last, [&](Index o) {
            return sum_of(c.batch, [&entered](Index b) { return entered.row(b); },
                          [&errors, o](Index b) { return errors.row(b)[o]; });
        });
        if (last > first)
            descend_rows(mine, bias.slice(first, last - first), 0, 1, [&](Index) {
                return sum_of(c.batch, [&errors, first](Index b) { return errors.row(b) + first; },
                              [](Index) { return T(1); });
            });
    }

    void learn_kept_readout(const Mine& mine) {
        const T *weight = address_of(c.readout_credits[0]), *bias = address_of(c.readout_credits[1]);
        const Index first = mine.first_output, last = mine.last_output, all = copies * c.batch;
        const Index outputs = c.outputs, hidden = c.hidden;
        const auto factor = [&](Index n) { return mine.worth.row(n % copies)[n / copies]; };
        descend_rows(mine, readout, first, last, [&](Index o) {
            return sum_of(all, [=](Index n) { return weight + (n * outputs + o) * hidden; }, factor);
        });
        if (bias && last > first)
            descend_rows(mine, readout_bias.slice(first, last - first), 0, 1, [&](Index) {
                return sum_of(all, [=](Index n) { return bias + n * outputs + first; }, factor);
            });
    }

    void learn_shaken(const Mine& mine) {
        std::vector<T> by(std::size_t(c.directions), T(0));
        for (Index copy = 0; copy < copies; ++copy)
            by[std::size_t(copy % c.directions)] += sign_of(copy) * mine.worth.row(copy)[0] / T(c.sigma);
        const auto some = [&](Index place, const Learner<T>& learner, Index first, Index last) {
            if (places[place] < 0 || last <= first) return;
            const Shake& own = shakes[places[place]];
            descend_rows(mine, learner.slice(first, last - first), 0, 1, [&](Index) {
                return sum_of(c.directions, [&own, first](Index d) { return own.drawn[d].get() + first; },
                              [&by](Index d) { return by[std::size_t(d)]; });
            });
        };
        for (Index l = 0; l < c.layers; ++l)
            for (Index g = 0; g < layers[l]->gates; ++g)
                for (int k = 0; k < 4; ++k) {
                    const Index columns = k == kIh ? layers[l]->inputs : k == kHh ? c.hidden : 1;
                    some(4 * l + k, layers[l]->learners[k], (g * c.hidden + mine.from) * columns,
                         (g * c.hidden + mine.to) * columns);
                }
        some(4 * c.layers, readout, mine.first_output * c.hidden, mine.last_output * c.hidden);
        some(4 * c.layers + 1, readout_bias, mine.first_output, mine.last_output);
    }

    void count_step() {
        const auto one = [](const Learner<T>& learner) {
            if (learner.group && learner.step) *learner.step += 1;
        };
        for (const auto& layer : layers)
            for (const Learner<T>& learner : layer->learners) one(learner);
        one(readout);
        one(readout_bias);
        one(inner);
        one(inner_bias);
    }

    const StreamCall& c;
    const Spread spread;
    const bool noisy, shaken;  // noise on nodes, noise on weights
    const Index copies, rows;
    const Judge<T> judge;
    const GroupCall* const groups;
    const Index features;  // of the top layer
    const Index read_units;  // what the output weights see
    Learner<T> readout, readout_bias, inner, inner_bias;
    Rows<T> hidden_units;  // of the readout, after the relu, of the clean rows
    const Rows<T> out;  // of all rows
    Index made = 0;     // steps
    std::vector<std::unique_ptr<StreamLayer<T>>> layers;
    std::vector<std::unique_ptr<LayerCredit<T>>> credits;
    std::vector<Buffer<T>> noise;
    Buffer<T> readout_noise;
    const Rows<T> readout_way;
    std::vector<Shake> shakes;
    std::vector<Index> places;
    std::vector<Signs> signs;      // empty for Gaussian noise
    std::vector<Clipped> clipped;  // empty where no gradient is
};

}  // namespace kernels
