// Weight perturbation of whole sequences with noise drawn anew at each step, the same for all sequences.
//
// After the clean run the noisy ones, direction by direction: at every step the noise is drawn, the weights with it
// on them are packed, and the change of the loss says how far the gradient follows a running sum of the noise,
//     E = decay E + Xi_t,    dW = sum_t (change of the loss at t) E / sigma.
// Threads share the directions.
#pragma once

#include "perturbed.h"

namespace kernels {

template <class T>
class PerturbedWeights {
  public:
    explicit PerturbedWeights(const PerturbedCall& call)
        : c(call), copies(call.directions * (call.antithetic ? 2 : 1)), judge(call) {
        const Index nodes = gates_of(static_cast<Cell>(c.cell)) * c.hidden;
        const auto* parameters = reinterpret_cast<const PerturbedParameter*>(call.parameters);
        for (Index p = 0; p < 4 * c.layers + 2; ++p) {
            const Index columns = p == 0 ? c.inputs : p % 4 < 2 ? c.hidden : 1;
            const Index size = p < 4 * c.layers ? nodes * columns : c.outputs * (p % 4 ? 1 : c.hidden);
            if (parameters[p].value) weights.push_back({p, size, all, parameters[p]}), all += size;
        }
    }

    void run() {
        PerturbedCall clean = c;
        clean.directions = 0, clean.credit = std::int64_t(Spread::nodes);
        clean.credit_decay = 0, clean.credit_is_global = 0;
        Perturbed<T>(clean).forward();
        for (const Weight& own : weights) std::memset(of<T>(own.at.gradient), 0, std::size_t(own.size) * sizeof(T));
        const double work = 2 * double(all) * double(c.batch * c.steps * copies);
        const Index parts = parts_of(c.directions, c.threads, work);
        std::vector<Run> runs;  // a direction each, added up one after the other
        for (Index i = 0; i < parts; ++i) runs.emplace_back(*this);
        for (Index d = 0; d < c.directions; d += parts) {
            const Index some = std::min(parts, c.directions - d);
            parallel(some, [&](Index i) { runs[std::size_t(i)].make(d + i); });
            for (Index i = 0; i < some; ++i) runs[std::size_t(i)].add();
        }
    }

  private:
    template <class U>
    static U* of(Address address) {
        return reinterpret_cast<U*>(address);
    }

    // A parameter, and its first element among those of all.
    struct Weight {
        Index number, size, first;
        PerturbedParameter at;
    };

    Index length(Index b) const { return c.lengths ? Index(of<const std::int64_t>(c.lengths)[b]) : c.steps; }
    bool reads(Index b, Index t) const { return !c.at_last || length(b) == t + 1; }

    // One direction: a noisy run, or with its mirror image two.
    class Run {
      public:
        explicit Run(const PerturbedWeights& whole)
            : all(whole), c(whole.c), signs(c.antithetic ? 2 : 1), ld(padded<T>(c.hidden)), ldo(padded<T>(c.outputs)),
              noise(whole.all + kNoiseGroup), shaken(whole.all), sum(whole.all), gradient(whole.all),
              readout(c.hidden, c.outputs), readout_bias(zeros<T>(ldo)), gated(c.batch * ld), out(c.batch * ldo) {
            const T* at[4];
            for (Index l = 0; l < c.layers; ++l) {
                for (Index k = 0; k < 4; ++k) at[k] = shaken_of(4 * l + k);
                steps.push_back(std::make_unique<CellStep<T>>(
                    Layer<T>{static_cast<Cell>(c.cell), 1, c.steps, c.batch, l ? c.hidden : c.inputs, c.hidden,
                             T(c.gain), at[0], at[1], at[2], at[3]}));
                for (Index s = 0; s < signs; ++s) h.emplace_back(c.batch * ld), memory.emplace_back(c.batch * ld);
            }
            scratch.push_back(steps.front()->scratch(c.batch));
        }

        void make(Index direction) {
            for (Buffer<T>* own : {&sum, &gradient}) clear(*own, all.all);
            for (Index l = 0; l < c.layers; ++l)
                for (Index s = 0; s < signs; ++s) begin(c.h0, l, h[at(l, s)]), begin(c.c0, l, memory[at(l, s)]);
            T total = 0;
            for (Index t = 0; t < c.steps; ++t) {
                draw(t, direction);
                bool any = !c.at_last;
                for (Index b = 0; b < c.batch && !any; ++b) any = all.reads(b, t);
                T change = 0;
                for (Index s = 0; s < signs; ++s) {
                    shake(s ? -T(c.sigma) : T(c.sigma));
                    forward(t, s);
                    if (any) change += (s ? T(-1) : T(1)) * read(t, s);
                }
                total += change;
                learn(change);
            }
            if (c.credit_is_global) follow(sum, total);
        }

        // To the gradients of all directions.
        void add() const {
            const Vec<T> by = broadcast(T(1) / (T(c.sigma) * T(all.copies)));
            for (const Weight& own : all.weights) {
                T* to = of<T>(own.at.gradient);
                const T* from = gradient.get() + own.first;
                each_vector<T>(own.size, [&](Index j, auto which) {
                    store(to + j, fma(load(from + j, which), by, load(to + j, which)), which);
                });
            }
        }

      private:
        Index at(Index l, Index s) const { return l * signs + s; }
        const T* shaken_of(Index number) const {
            for (const Weight& own : all.weights)
                if (own.number == number) return shaken.get() + own.first;
            return nullptr;
        }
        static void clear(const Buffer<T>& buffer, Index n) { std::memset(buffer.get(), 0, std::size_t(n) * sizeof(T)); }

        void begin(Address from, Index l, const Buffer<T>& state) const {
            clear(state, c.batch * ld);
            for (Index b = 0; from && b < c.batch; ++b)
                std::memcpy(state.get() + b * ld, of<const T>(from) + (l * c.batch + b) * c.hidden,
                            std::size_t(c.hidden) * sizeof(T));
        }

        void draw(Index t, Index direction) const {
            Index place = direction * Index(all.weights.size());
            for (const Weight& own : all.weights)
                fill_noise<T>(noise_key(c.key, t, std::uint32_t(place++)), 0, own.size, own.size,
                              noise.get() + own.first, 0);
        }

        // The weights with so much of the noise on them.
        void shake(T by) {
            const Vec<T> factor = broadcast(by);
            for (const Weight& own : all.weights) {
                const T *value = of<const T>(own.at.value), *drawn = noise.get() + own.first;
                T* to = shaken.get() + own.first;
                each_vector<T>(own.size, [&](Index j, auto which) {
                    store(to + j, fma(load(drawn + j, which), factor, load(value + j, which)), which);
                });
            }
            for (auto& step : steps) step->pack();
        }

        void forward(Index t, Index s) const {
            for (Index l = 0; l < c.layers; ++l) {
                const Operand<T> x = l ? Operand<T>{h[at(l - 1, s)].get(), ld, 1, c.hidden}
                                       : Operand<T>{of<const T>(c.x) + t * c.batch * c.inputs, c.inputs, 1, c.inputs};
                (*steps[l])(c.batch, {x}, t == 0 && !c.h0, {h[at(l, s)].get(), memory[at(l, s)].get(), gated.get()},
                            {nullptr, T(0)}, SomeOut<T>{nullptr, nullptr, nullptr}, scratch.front());
            }
        }

        // The change of the mean loss through the outputs of this step.
        T read(Index t, Index s) {
            const Index outputs = c.outputs;
            readout.pack_transposed(0, c.hidden, shaken_of(4 * c.layers), c.hidden, 0, readout.panels());
            if (const T* bias = shaken_of(4 * c.layers + 1))
                std::memcpy(readout_bias.get(), bias, std::size_t(outputs) * sizeof(T));
            multiply<T>(readout, 0, c.batch, {h[at(c.layers - 1, s)].get(), ld, 1, c.hidden}, {}, readout_bias.get(), 0,
                        out.get(), ldo);
            T change = 0;
            for (Index b = 0; b < c.batch; ++b) {
                const Index entry = (c.at_last ? 0 : t) * c.batch + b;
                const T weight = c.weights ? of<const T>(c.weights)[entry] : T(1);
                if (all.reads(b, t) && weight != 0)
                    change += (all.judge(entry, out.get() + b * ldo, nullptr) - of<const T>(c.losses)[entry]) *
                              (weight / T(c.denominator));
            }
            return change;
        }

        void learn(T change) const {
            const bool local = c.credit_decay == 0 && !c.credit_is_global;
            if (local) return change != 0 ? follow(noise, change) : void();
            const Vec<T> decay = broadcast(c.credit_is_global ? T(1) : T(c.credit_decay));
            each_vector<T>(all.all, [&](Index j, auto which) {
                store(sum.get() + j, fma(load(sum.get() + j, which), decay, load(noise.get() + j, which)), which);
            });
            if (change != 0 && !c.credit_is_global) follow(sum, change);
        }
        void follow(const Buffer<T>& along, T by) const {
            const Vec<T> factor = broadcast(by);
            each_vector<T>(all.all, [&](Index j, auto which) {
                T* to = gradient.get() + j;
                store(to, fma(load(along.get() + j, which), factor, load(to, which)), which);
            });
        }

        const PerturbedWeights& all;
        const PerturbedCall& c;
        const Index signs, ld, ldo;
        Buffer<T> noise, shaken, sum, gradient;  // of all parameters
        Packed<T> readout;
        Buffer<T> readout_bias, gated, out;
        std::vector<std::unique_ptr<CellStep<T>>> steps;
        std::vector<Buffer<T>> h, memory;  // of each layer and sign
        std::vector<typename CellStep<T>::Scratch> scratch;
    };

    const PerturbedCall& c;
    const Index copies;
    const Judge<T> judge;
    std::vector<Weight> weights;
    Index all = 0;  // elements
};

}  // namespace kernels
