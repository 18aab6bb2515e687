// Node perturbation of whole sequences: clean and noisy runs side by side, noise made where it is used, and the
// credit of all steps as one product.
//
// Every thread carries all runs of its own sequences through time. What is credited, d at the nodes, is the noise
// itself, which is drawn again, or the measured change of the pre-activations, which is kept. When all losses are
// known, so is every step's credit c, and with delta = sum c d the gradients are those of any node signal.
#pragma once

#include <memory>
#include <vector>

#include "cell_step.h"
#include "gradients.h"
#include "noise.h"
#include "stream/head.h"

namespace kernels {

// A parameter and where its gradient goes; 0 for "none".
struct PerturbedParameter {
    Address value, gradient;
};

// Under the names and in the order of `kernels/native_perturbed.py`. An entry is a step of a sequence, or, at
// `at_last`, a sequence.
struct PerturbedCall {
    std::int64_t bytes, threads, steps, batch, inputs, hidden, outputs, layers;
    std::int64_t cell, credit, loss, at_last;
    std::int64_t directions, antithetic, batch_reward, layer_norms, credit_is_global;
    double gain, sigma, credit_decay, label_smoothing, denominator;
    std::uint64_t key;
    Address x, y, weights, lengths, class_weights;  // weights of the entries; lengths int64 (b,)
    Address h0, c0, h, c;                           // initial states, or none, and those at the end, (l, b, h)
    Address parameters;                             // PerturbedParameter[layers][4], then the readout's two
    Address losses, out;                            // clean, by entry
};

template <class T>
class Perturbed {
  public:
    explicit Perturbed(const PerturbedCall& call)
        : c(call),
          measures(static_cast<Spread>(call.credit) == Spread::activity),
          copies(call.directions * (call.antithetic ? 2 : 1)),
          ways(measures ? copies : call.directions),
          entries(call.at_last ? 1 : call.steps),
          first(first_credited()),
          credited(call.steps - first),
          judge(call),
          readout(call.hidden, call.outputs),
          readout_bias(zeros<T>(padded<T>(call.outputs))),
          changes(zeros<T>(entries * copies * call.batch)),
          readout_ways(zeros<T>(entries * ways * call.batch * call.outputs)) {
        const auto* parameters = reinterpret_cast<const PerturbedParameter*>(call.parameters);
        for (Index l = 0; l < c.layers; ++l) layers.push_back(std::make_unique<OneLayer>(*this, l, parameters + 4 * l));
        readout_parameters = parameters + 4 * c.layers;
        readout.pack_transposed(0, c.hidden, of<const T>(readout_parameters[0].value), c.hidden, 0, readout.panels());
        if (const T* bias = of<const T>(readout_parameters[1].value))
            std::memcpy(readout_bias.get(), bias, std::size_t(c.outputs) * sizeof(T));
    }

    void run() {
        forward();
        learn();
    }

    // The runs alone: without copies the clean one, its losses, outputs and last states.
    void forward() {
        double work = 0;
        for (const auto& own : layers) {
            own->step.pack();
            work += double(own->layer.nodes()) * double(own->layer.inputs + c.hidden);
        }
        const Index parts = parts_of(c.batch, c.threads, work * double(c.steps * (1 + copies) * c.batch));
        parallel(parts, [&](Index part) { Rows(*this, c.batch * part / parts, c.batch * (part + 1) / parts).run(); });
    }

  private:
    template <class U>
    static U* of(Address address) {
        return reinterpret_cast<U*>(address);
    }

    // A layer, and what its clean run leaves from step `first` on.
    struct OneLayer {
        OneLayer(const Perturbed& all, Index l, const PerturbedParameter* own)
            : layer{static_cast<Cell>(all.c.cell), all.c.threads, all.credited, all.c.batch,
                    l ? all.c.hidden : all.c.inputs, all.c.hidden, T(all.c.gain), of<const T>(own[0].value),
                    of<const T>(own[1].value), of<const T>(own[2].value), of<const T>(own[3].value)},
              out{of<T>(own[0].gradient), of<T>(own[1].gradient), of<T>(own[2].gradient), of<T>(own[3].gradient)},
              step(layer),
              h((all.credited + 1) * all.c.batch * all.c.hidden + Packed<T>::width),
              gated(is_gru(layer.cell) ? all.credited * all.c.batch * all.c.hidden : 0),
              changed(all.measures ? all.credited * all.copies * all.c.batch * layer.nodes() : 0),
              worth(zeros<T>(all.credited * all.ways * all.c.batch)) {}

        const Layer<T> layer;
        const Gradients<T> out;
        CellStep<T> step;
        const Buffer<T> h;        // (t + 1, b, h)
        const Buffer<T> gated;    // (t, b, h): r (reset after) or r * h (before)
        const Buffer<T> changed;  // (t, copy, b, g), if it is measured
        const Buffer<T> worth;    // (t, way, b): c of each d, with what d is divided by
    };

    // The first step that is credited with anything: by local credit of a loss at the end the last one alone.
    Index first_credited() const {
        if (!c.at_last || c.credit_decay != 0 || c.credit_is_global) return 0;
        Index least = c.steps;
        for (Index b = 0; b < c.batch; ++b) least = std::min(least, length(b));
        return least - 1;
    }
    Index length(Index b) const { return c.lengths ? Index(of<const std::int64_t>(c.lengths)[b]) : c.steps; }

    Key noise_of(Index t, Index place) const { return noise_key(c.key, t, std::uint32_t(place)); }

    // --- the runs of some sequences ------------------------------------------------------------

    class Rows {
      public:
        Rows(Perturbed& all, Index b0, Index b1)
            : all(all), c(all.c), b0(b0), n(b1 - b0), ld(padded<T>(c.hidden)),
              most(gates_of(static_cast<Cell>(c.cell)) * c.hidden), shares(c.inputs * all.copies >= 8),
              scratch(all.layers.front()->step.scratch(n)), entered(all.layers.front()->step.scratch(shares ? n : 0)),
              noise(n * std::max(most, c.outputs)), gated(n * ld), clean(all.measures ? n * most : 0),
              out((1 + all.copies) * n * padded<T>(c.outputs)), sizes((c.layers + 1) * all.copies * n) {
            for (Index l = 0; l < c.layers; ++l)
                for (Index run = 0; run < 1 + all.copies; ++run) {
                    h.push_back(begun(c.h0, l));
                    memory.push_back(lstm() ? begun(c.c0, l) : Buffer<T>(0));
                }
        }

        void run() {
            for (Index t = 0; t < c.steps; ++t) {
                for (Index l = 0; l < c.layers; ++l) {
                    step(l, t);
                    leave(l, t);
                }
                const bool reads = !c.at_last || any_ends(t);
                if (reads) read(t);
                if (all.measures && t >= all.first) gains(t, reads);
            }
        }

      private:
        bool lstm() const { return static_cast<Cell>(c.cell) == Cell::lstm; }
        Index runs() const { return 1 + all.copies; }
        bool ends(Index b, Index t) const { return all.length(b) == t + 1; }
        bool any_ends(Index t) const {
            for (Index r = 0; r < n; ++r)
                if (ends(b0 + r, t)) return true;
            return false;
        }

        Buffer<T> begun(Address from, Index l) const {
            Buffer<T> state = zeros<T>(n * ld);
            for (Index r = 0; from && r < n; ++r)
                std::memcpy(state.get() + r * ld, of<const T>(from) + (l * c.batch + b0 + r) * c.hidden,
                            std::size_t(c.hidden) * sizeof(T));
            return state;
        }

        // Row by row to rows without gaps.
        void copy(const Buffer<T>& state, T* to) const {
            for (Index r = 0; r < n; ++r)
                std::memcpy(to + r * c.hidden, state.get() + r * ld, std::size_t(c.hidden) * sizeof(T));
        }

        void step(Index l, Index t) {
            OneLayer& own = *all.layers[l];
            const Index nodes = own.layer.nodes(), since = t - all.first, row = since * c.batch + b0;
            const bool kept = since >= 0;
            if (l == 0 && shares) entering = own.step.enter(n, inputs(t), entered);
            if (since == 0) copy(h[l * runs()], own.h.get() + b0 * c.hidden);
            const SomeOut<T> made{kept ? own.h.get() + (row + c.batch) * c.hidden : nullptr,
                                  kept && all.measures ? clean.get() : nullptr,
                                  kept && is_gru(own.layer.cell) ? own.gated.get() + row * c.hidden : nullptr};
            step(l, t, 0, {nullptr, T(0)}, made);
            for (Index d = 0; d < c.directions; ++d) {
                const Index at = (d * c.batch + b0) * nodes;
                fill_noise<T>(all.noise_of(t, l), at, at + n * nodes, n * nodes, noise.get(), 0);
                for (Index copy = d; copy < all.copies; copy += c.directions) {
                    T* changed = kept && all.measures
                                     ? own.changed.get() + ((since * all.copies + copy) * c.batch + b0) * nodes
                                     : nullptr;
                    const T by = copy < c.directions ? T(c.sigma) : -T(c.sigma);
                    step(l, t, 1 + copy, {noise.get(), by}, {nullptr, changed, nullptr});
                    if (changed) measure(nodes, changed, sizes.get() + (l * all.copies + copy) * n);
                }
            }
        }

        void step(Index l, Index t, Index run, const StepNoise<T>& drawn, const SomeOut<T>& made) {
            const Carried<T> carried{h[l * runs() + run].get(), memory[l * runs() + run].get(), gated.get()};
            const Entering<T> below = l ? Entering<T>{{h[(l - 1) * runs() + run].get(), ld, 1, c.hidden}}
                                        : shares ? entering : Entering<T>{inputs(t)};
            all.layers[l]->step(n, below, t == 0 && !c.h0, carried, drawn, made, scratch);
        }

        Operand<T> inputs(Index t) const {
            return {of<const T>(c.x) + (t * c.batch + b0) * c.inputs, c.inputs, 1, c.inputs};
        }

        // Pre-activations to their change, and its squared length, row by row.
        void measure(Index nodes, T* changed, T* squares) const {
            for (Index r = 0; r < n; ++r, changed += nodes) {
                const T* before = clean.get() + r * nodes;
                Vec<T> sum = {};
                each_vector<T>(nodes, [&](Index j, auto which) {
                    const Vec<T> change = load(changed + j, which) - load(before + j, which);
                    store(changed + j, change, which);
                    sum = fma(change, change, sum);
                });
                squares[r] = total(sum);
            }
        }

        static T total(const Vec<T>& sum) {
            T all = 0;
            for (Index lane = 0; lane < kLanes<T>; ++lane) all += sum[lane];
            return all;
        }

        // The clean states of the sequences that end here.
        void leave(Index l, Index t) const {
            for (Index r = 0; r < n; ++r) {
                if (!ends(b0 + r, t)) continue;
                const Index to = (l * c.batch + b0 + r) * c.hidden;
                const std::size_t bytes = std::size_t(c.hidden) * sizeof(T);
                std::memcpy(of<T>(c.h) + to, h[l * runs()].get() + r * ld, bytes);
                if (lstm()) std::memcpy(of<T>(c.c) + to, memory[l * runs()].get() + r * ld, bytes);
            }
        }

        // Outputs of all runs, their losses, and what is credited at the readout.
        void read(Index t) {
            const Index outputs = c.outputs, ldo = padded<T>(outputs), entry = c.at_last ? 0 : t;
            const auto row = [&](Index run, Index r) { return out.get() + (run * n + r) * ldo; };
            for (Index run = 0; run < runs(); ++run)
                multiply<T>(all.readout, 0, n, {h[(c.layers - 1) * runs() + run].get(), ld, 1, c.hidden}, {},
                            all.readout_bias.get(), 0, row(run, 0), ldo);
            for (Index d = 0; d < c.directions; ++d) {
                const Index at = (d * c.batch + b0) * outputs;
                fill_noise<T>(all.noise_of(t, c.layers), at, at + n * outputs, n * outputs, noise.get(), 0);
                for (Index copy = d; copy < all.copies; copy += c.directions)
                    for (Index r = 0; r < n; ++r) {
                        const T by = copy < c.directions ? T(c.sigma) : -T(c.sigma);
                        for (Index o = 0; o < outputs; ++o) row(1 + copy, r)[o] += by * noise.get()[r * outputs + o];
                    }
                for (Index r = 0; !all.measures && r < n; ++r)
                    if (reads(r, t))
                        std::memcpy(all.readout_way(entry, d, b0 + r), noise.get() + r * outputs,
                                    std::size_t(outputs) * sizeof(T));
            }
            for (Index r = 0; r < n; ++r) {
                if (!reads(r, t)) continue;
                const Index b = b0 + r, at = entry * c.batch + b;
                const T weight = c.weights ? of<const T>(c.weights)[at] : T(1);
                if (t >= all.length(b))  // nothing leaves the layers at padding
                    std::memcpy(row(0, r), all.readout_bias.get(), std::size_t(outputs) * sizeof(T));
                const T clean_loss = all.judge(at, row(0, r), nullptr);
                of<T>(c.losses)[at] = clean_loss;
                std::memcpy(of<T>(c.out) + at * outputs, row(0, r), std::size_t(outputs) * sizeof(T));
                for (Index copy = 0; copy < all.copies; ++copy) {
                    const T* own = row(1 + copy, r);
                    if (weight != 0)
                        *all.change(entry, copy, b) = (all.judge(at, own, nullptr) - clean_loss) * (weight / T(c.denominator));
                    if (!all.measures) continue;
                    T *way = all.readout_way(entry, copy, b), squares = 0;
                    for (Index o = 0; o < outputs; ++o) {
                        way[o] = own[o] - row(0, r)[o];
                        squares += way[o] * way[o];
                    }
                    sizes.get()[(c.layers * all.copies + copy) * n + r] = squares;
                }
            }
        }
        bool reads(Index r, Index t) const { return !c.at_last || ends(b0 + r, t); }

        // N / |d|^2 of every copy, in place of what it will be worth; nothing where nothing has changed.
        void gains(Index t, bool any_read) {
            const Index entry = c.at_last ? 0 : t;
            const auto gain = [](T count, T size) { return size > 0 ? count / size : T(0); };
            for (Index copy = 0; copy < all.copies; ++copy)
                for (Index r = 0; r < n; ++r) {
                    const bool read = any_read && reads(r, t);
                    const auto size = [&](Index l) { return sizes.get()[(l * all.copies + copy) * n + r]; };
                    const T outputs = read ? size(c.layers) : T(0);
                    T every = outputs, count = T(read ? c.outputs : 0);
                    for (Index l = 0; l < c.layers; ++l) every += size(l), count += T(most);
                    for (Index l = 0; l < c.layers; ++l)
                        *all.worth(l, t - all.first, copy, b0 + r) = c.layer_norms ? gain(T(most), size(l)) : gain(count, every);
                    if (!read) continue;
                    const T by = c.layer_norms ? gain(T(c.outputs), outputs) : gain(count, every);
                    T* way = all.readout_way(entry, copy, b0 + r);
                    for (Index o = 0; o < c.outputs; ++o) way[o] *= by;
                }
        }

        Perturbed& all;
        const PerturbedCall& c;
        const Index b0, n, ld, most;  // most: nodes of a layer
        std::vector<Buffer<T>> h, memory;  // of each layer's runs
        const bool shares;  // all runs see the same inputs: from so many on it pays to keep their products
        const typename CellStep<T>::Scratch scratch, entered;
        Entering<T> entering{};
        const Buffer<T> noise, gated, clean, out, sizes;
    };

    T* change(Index entry, Index copy, Index b) const { return changes.get() + (entry * copies + copy) * c.batch + b; }
    T* worth(Index l, Index since, Index way, Index b) const {
        return layers[l]->worth.get() + (since * ways + way) * c.batch + b;
    }
    T* readout_way(Index entry, Index way, Index b) const {
        return readout_ways.get() + ((entry * ways + way) * c.batch + b) * c.outputs;
    }

    // --- credit ----------------------------------------------------------------------------------

    void learn() {
        FlushSubnormals flush;
        const Index row = copies * c.batch;
        for (Index e = 0; e < entries; ++e)
            for (Index copy = 0; copy < copies; ++copy) share_out(change(e, copy, 0));
        const Buffer<T> credit(credited * row);
        for (Index since = 0; since < credited; ++since)
            for (Index copy = 0; copy < copies; ++copy)
                for (Index b = 0; b < c.batch; ++b) {
                    const Index t = first + since;
                    const bool has = !c.at_last || length(b) == t + 1;
                    credit.get()[since * row + copy * c.batch + b] = has ? *change(c.at_last ? 0 : t, copy, b) : T(0);
                }
        over_time(credit.get(), row);
        for (Index l = 0; l < c.layers; ++l) weigh(l, credit.get());
        if (!c.at_last) std::memcpy(changes.get(), credit.get(), std::size_t(credited * row) * sizeof(T));
        learn_readout();
        for (Index l = 0; l < c.layers; ++l) learn_layer(l);
    }

    // A copy's changes of the loss, as shares of the mean over the copies; with one reward a batch all get the sum.
    void share_out(T* own) const {
        T sum = 0;
        for (Index b = 0; b < c.batch; ++b) own[b] /= T(copies), sum += own[b];
        for (Index b = 0; c.batch_reward && b < c.batch; ++b) own[b] = sum;
    }

    // c_s = sum over t >= s of decay^(t - s) change_t, or over all t; nothing at padding.
    void over_time(T* credit, Index row) const {
        const T decay = c.credit_is_global ? T(1) : T(c.credit_decay);
        for (Index t = credited - 1; decay != 0 && t-- > 0;)
            for (Index i = 0; i < row; ++i) credit[t * row + i] += decay * credit[(t + 1) * row + i];
        for (Index t = 1; c.credit_is_global && t < credited; ++t)
            std::memcpy(credit + t * row, credit, std::size_t(row) * sizeof(T));
        for (Index t = 0; c.lengths && t < credited; ++t)
            for (Index i = 0; i < row; ++i)
                if (first + t >= length(i % c.batch)) credit[t * row + i] = 0;
    }

    // What d is worth: c of each copy by its gain, or c of a direction less that of its mirror image, over sigma.
    void weigh(Index l, const T* credit) const {
        for (Index since = 0; since < credited; ++since)
            for (Index copy = 0; copy < copies; ++copy)
                for (Index b = 0; b < c.batch; ++b, ++credit) {
                    T* to = worth(l, since, copy % ways, b);
                    if (measures)
                        *to *= *credit;
                    else
                        *to += (copy < ways ? *credit : -*credit) / T(c.sigma);
                }
    }

    // The errors (e, b, o), and the gradients they make of what the readout has read.
    void learn_readout() const {
        const Index all = entries * c.batch, outputs = c.outputs, hidden = c.hidden;
        const Buffer<T> errors = zeros<T>(all * outputs), last(c.at_last ? c.batch * hidden + Packed<T>::width : 0);
        for (Index e = 0; e < entries; ++e)
            for (Index copy = 0; copy < copies; ++copy)
                for (Index b = 0; b < c.batch; ++b) {
                    const T own = *change(e, copy, b), *way = readout_way(e, copy % ways, b);
                    const T by = measures ? own : (copy < ways ? own : -own) / T(c.sigma);
                    T* to = errors.get() + (e * c.batch + b) * outputs;
                    for (Index o = 0; o < outputs; ++o) to[o] += by * way[o];
                }
        const T* features = layers.back()->h.get() + c.batch * hidden;
        if (c.at_last) {
            for (Index b = 0; b < c.batch; ++b)
                std::memcpy(last.get() + b * hidden, features + ((length(b) - 1 - first) * c.batch + b) * hidden,
                            std::size_t(hidden) * sizeof(T));
            features = last.get();
        }
        constexpr Index width = Packed<T>::width;
        T sums[kTileRows * width];
        for (Index column = 0; column < hidden; column += width)
            for (Index o = 0, height; o < outputs; o += height) {
                height = tile_height(outputs - o);
                const Index wide = std::min(width, hidden - column), ldc = padded<T>(wide);
                std::memset(sums, 0, sizeof sums);
                tile_of<T>(height, ldc / kLanes<T>)(features + column, hidden, {errors.get() + o, 1, outputs, all}, {},
                                                    sums, ldc, sums, ldc);
                for (Index r = 0; r < height; ++r)
                    std::memcpy(of<T>(readout_parameters[0].gradient) + (o + r) * hidden + column, sums + r * ldc,
                                std::size_t(wide) * sizeof(T));
            }
        T* bias = of<T>(readout_parameters[1].gradient);
        for (Index o = 0; bias && o < outputs; ++o) {
            bias[o] = 0;
            for (Index k = 0; k < all; ++k) bias[o] += errors.get()[k * outputs + o];
        }
    }

    void learn_layer(Index l) const {
        const OneLayer& own = *layers[l];
        const Index size = c.hidden, gates = gates_of(own.layer.cell), nodes = own.layer.nodes();
        const Panels panels = panels_of(own.layer.cell);
        const T* inputs = l ? layers[l - 1]->h.get() + c.batch * size
                            : of<const T>(c.x) + first * c.batch * c.inputs;
        const auto fill = [&](Index row, Index n, Index unit, Index count, T* const* panel, Index ld) {
            for (Index k = 0, many; k < n; k += many) {  // rows of the same step
                const Index since = (row + k) / c.batch, b = (row + k) % c.batch;
                many = std::min(n - k, c.batch - b);
                for (Index p = 0; p < panels.count; ++p)
                    std::memset(panel[p] + k * ld, 0, std::size_t(many * ld) * sizeof(T));
                for (Index way = 0; way < ways; ++way) {
                    const T* by = worth(l, since, way, b);
                    const auto add = [&](Index r, Index g, const T* d) {
                        T* to = panel[is_gru(own.layer.cell) ? (g + 1) % 3 : g] + (k + r) * ld;
                        const Vec<T> factor = broadcast(by[r]);
                        each_vector<T>(count, [&](Index j, auto which) {
                            store(to + j, fma(load(d + j, which), factor, load(to + j, which)), which);
                        });
                    };
                    if (measures) {
                        const T* d = own.changed.get() + ((since * copies + way) * c.batch + b) * nodes + unit;
                        for (Index r = 0; r < many; ++r)
                            for (Index g = 0; by[r] != 0 && g < gates; ++g) add(r, g, d + r * nodes + g * size);
                    } else {
                        draw_rows(l, since, way, b, many, by, unit, count, add);
                    }
                }
                for (Index r = 0; own.layer.cell == Cell::gru && r < many; ++r) {
                    const T *reset = own.gated.get() + (row + k + r) * size + unit, *from = panel[0] + (k + r) * ld;
                    T* to = panel[3] + (k + r) * ld;
                    each_vector<T>(count, [&](Index j, auto which) {
                        store(to + j, load(from + j, which) * load(reset + j, which), which);
                    });
                }
            }
        };
        const History<T> past{own.h.get(), nullptr, nullptr, own.gated.get(), first == 0 && !c.h0};
        sum_outer_products(own.layer, past, inputs, own.out, fill);
    }

    // The noise of some rows once more, for units [unit, unit + count): add(row, gate, noise).
    template <class Add>
    void draw_rows(Index l, Index since, Index way, Index b, Index many, const T* by, Index unit, Index count,
                   const Add& add) const {
        const Index size = c.hidden, nodes = layers[l]->layer.nodes(), gates = nodes / size;
        constexpr Index at_once = 4096;  // elements: they stay in the first cache
        const Index rows = std::max<Index>(1, at_once / nodes);
        T drawn[at_once];
        const Key key = noise_of(first + since, l);
        const auto at = [&](Index r) { return (way * c.batch + b + r) * nodes; };
        const auto draw = [&](Index from, Index n) { fill_noise<T>(key, from, from + n, n, drawn, 0); };
        for (Index r = 0, n; r < many; r += n) {
            n = std::min(rows, many - r);
            bool any = false;
            for (Index k = r; k < r + n; ++k) any = any || by[k] != 0;
            if (!any) continue;
            if (count == size && n * nodes <= at_once) {
                draw(at(r), n * nodes);
                for (Index k = 0; k < n; ++k)
                    for (Index g = 0; g < gates; ++g) add(r + k, g, drawn + k * nodes + g * size);
                continue;
            }
            for (Index k = r; k < r + n; ++k)
                for (Index g = 0; g < gates; ++g) {
                    draw(at(k) + g * size + unit, count);
                    add(k, g, drawn);
                }
        }
    }

    const PerturbedCall& c;
    const bool measures;  // the change of the nodes; else the noise on them is known
    const Index copies, ways, entries, first, credited;
    const Judge<T> judge;
    Packed<T> readout;
    const Buffer<T> readout_bias, changes, readout_ways;  // changes (e, copy, b); ways (e, way, b, o)
    const PerturbedParameter* readout_parameters = nullptr;
    std::vector<std::unique_ptr<OneLayer>> layers;
};

}  // namespace kernels
