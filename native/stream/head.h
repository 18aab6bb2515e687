// The loss of one entry, and the error at its outputs: squares, cross-entropy, binary cross-entropy.
#pragma once

#include <cmath>

#include "../activations.h"
#include "call.h"

namespace kernels {

template <class T>
class Judge {
  public:
    template <class Call>
    explicit Judge(const Call& call)
        : kind(static_cast<Penalty>(call.loss)),
          outputs(call.outputs),
          smoothing(T(call.label_smoothing)),
          class_weights(reinterpret_cast<const T*>(call.class_weights)),
          values(kind == Penalty::cross_entropy ? nullptr : reinterpret_cast<const T*>(call.y)),
          classes(kind == Penalty::cross_entropy ? reinterpret_cast<const std::int64_t*>(call.y) : nullptr) {}

    // What entry n counts in the denominator of the mean.
    T weight(Index n) const { return classes && class_weights ? class_weights[classes[n]] : T(1); }

    // The loss of outputs (o,) at entry n; errors (o,), its gradient, unless null.
    T operator()(Index n, const T* out, T* errors) const {
        if (kind == Penalty::cross_entropy) return cross_entropy(classes[n], out, errors);
        const T* y = values + n * outputs;
        return kind == Penalty::squares ? squares(y, out, errors) : binary(y, out, errors);
    }

  private:
    T squares(const T* y, const T* out, T* errors) const {
        T sum = 0;
        for (Index o = 0; o < outputs; ++o) {
            const T difference = out[o] - y[o];
            sum += difference * difference;
            if (errors) errors[o] = difference * (2 / T(outputs));
        }
        return sum / T(outputs);
    }

    T binary(const T* y, const T* out, T* errors) const {
        T sum = 0;
        for (Index o = 0; o < outputs; ++o) {
            const T x = out[o], small = std::exp(-std::abs(x));
            sum += (x > 0 ? x : T(0)) - x * y[o] + std::log1p(small);
            if (errors) errors[o] = ((x > 0 ? T(1) : small) / (1 + small) - y[o]) / T(outputs);
        }
        return sum / T(outputs);
    }

    T cross_entropy(std::int64_t label, const T* out, T* errors) const {
        T top = out[0];
        for (Index o = 1; o < outputs; ++o) top = out[o] > top ? out[o] : top;
        Vec<T> sums = {};
        const auto powers = [&](Index o, auto which) {
            const Exponential<T> e = exponential<T>(load(out + o, which) - top);
            return fma(e.scale, e.tail, e.scale);
        };
        Index o = 0;
        for (; o + kLanes<T> <= outputs; o += kLanes<T>) {
            const Vec<T> p = powers(o, Whole{});
            if (errors) store(errors + o, p);
            sums += p;
        }
        T total = 0;
        for (Index lane = 0; lane < kLanes<T>; ++lane) total += sums[lane];
        if (o < outputs) {
            T rest[kLanes<T>];
            store(rest, powers(o, Part{outputs - o}));
            for (Index i = 0; o + i < outputs; ++i) {
                total += rest[i];
                if (errors) errors[o + i] = rest[i];
            }
        }
        const T log_total = top + std::log(total);
        if (!smoothing && !class_weights) {
            if (errors) {
                const T by = 1 / total;
                each_vector<T>(outputs, [&](Index j, auto which) {
                    store(errors + j, load(errors + j, which) * by, which);
                });
                errors[label] -= 1;
            }
            return log_total - out[label];
        }
        T loss = 0, all = 0;
        for (Index k = 0; k < outputs; ++k) {
            const T share = wanted(k, label);
            loss += share * (log_total - out[k]);
            all += share;
        }
        for (Index k = 0; errors && k < outputs; ++k) errors[k] = errors[k] / total * all - wanted(k, label);
        return loss;
    }

    T wanted(Index k, std::int64_t label) const {
        const T share = (k == label ? 1 - smoothing : T(0)) + smoothing / T(outputs);
        return class_weights ? share * class_weights[k] : share;
    }

    const Penalty kind;
    const Index outputs;
    const T smoothing;
    const T* const class_weights;
    const T* const values;
    const std::int64_t* const classes;
};

}  // namespace kernels
