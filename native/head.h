// The head of an estimate: outputs of a linear readout, the mean loss, its error, the readout's gradients.
//
// For a readout of so few multiply-adds that one thread makes them before others have woken.
#pragma once

#include <cmath>
#include <cstdint>

#include "multiply.h"
#include "parallel.h"

namespace kernels {

enum class Loss : int { cross_entropy = 0, mse = 1 };

// Tensors are contiguous. Cross-entropy reads `classes` and writes `accuracy`; the squared error reads
// `values`. Of a readout without bias, bias and bias_gradient are null.
template <class T>
struct HeadCall {
    Loss kind;
    Index rows, hidden, outputs;
    const T *features, *weight, *bias;  // (n, h), (o, h), (o)
    const std::int64_t* classes;        // (n)
    const T* values;                    // (n, o)
    T *made, *errors, *loss, *accuracy;  // (n, o), (n, o), (), ()
    T *weight_gradient, *bias_gradient;  // (o, h), (o)
};

template <class T>
class Head {
  public:
    explicit Head(const HeadCall<T>& call) : c(call) {}

    void run() {
        FlushSubnormals flush;
        double loss = 0, right = 0;
        for (Index n = 0; n < c.rows; ++n) {
            read(n);
            if (c.kind == Loss::mse) {
                loss += squared_error(n);
            } else {
                const Index wanted = Index(c.classes[n]);
                loss += cross_entropy(n, wanted);
                right += largest(n) == wanted;
            }
        }
        *c.loss = T(loss / double(c.rows));
        if (c.kind == Loss::cross_entropy) *c.accuracy = T(right / double(c.rows));
        for (Index o = 0; o < c.outputs; ++o) learn(o);
    }

  private:
    void read(Index n) {
        const T* features = c.features + n * c.hidden;
        for (Index o = 0; o < c.outputs; ++o) {
            const T* weight = c.weight + o * c.hidden;
            Vec<T> sum = {};
            each_vector<T>(c.hidden, [&](Index j, auto which) {
                sum = fma(load(features + j, which), load(weight + j, which), sum);
            });
            T total = c.bias ? c.bias[o] : T(0);
            for (Index lane = 0; lane < kLanes<T>; ++lane) total += sum[lane];
            c.made[n * c.outputs + o] = total;
        }
    }

    // l = log sum exp(y) - y_wanted, e = softmax(y) - wanted. A class out of range is never an address.
    double cross_entropy(Index n, Index wanted) {
        const T *y = c.made + n * c.outputs, top = y[largest(n)];
        T *e = c.errors + n * c.outputs, sum = 0, chosen = 0;
        for (Index o = 0; o < c.outputs; ++o) sum += e[o] = std::exp(y[o] - top);
        const T share = T(1) / sum, mean = T(1) / T(c.rows);
        for (Index o = 0; o < c.outputs; ++o) {
            if (o == wanted) chosen = y[o] - top;
            e[o] = (e[o] * share - T(o == wanted)) * mean;
        }
        return double(std::log(sum) - chosen);
    }

    double squared_error(Index n) {
        const T *y = c.made + n * c.outputs, *wanted = c.values + n * c.outputs;
        T *e = c.errors + n * c.outputs, sum = 0;
        const T slope = T(2) / T(c.outputs) / T(c.rows);
        for (Index o = 0; o < c.outputs; ++o) {
            const T difference = y[o] - wanted[o];
            sum += difference * difference;
            e[o] = difference * slope;
        }
        return double(sum / T(c.outputs));
    }

    // The first of the largest outputs; NaN counts as larger than any number.
    Index largest(Index n) const {
        const T* y = c.made + n * c.outputs;
        Index best = 0;
        for (Index o = 1; o < c.outputs; ++o)
            if (!(y[o] <= y[best]) && !std::isnan(y[best])) best = o;
        return best;
    }

    // dW_o = sum_n e_no features_n, db_o = sum_n e_no
    void learn(Index o) {
        const T* e = c.errors + o;
        each_vector<T>(c.hidden, [&](Index j, auto which) {
            Vec<T> sum = {};
            for (Index n = 0; n < c.rows; ++n)
                sum = fma(load(c.features + n * c.hidden + j, which), broadcast(e[n * c.outputs]), sum);
            store(c.weight_gradient + o * c.hidden + j, sum, which);
        });
        if (!c.bias) return;
        T sum = 0;
        for (Index n = 0; n < c.rows; ++n) sum += e[n * c.outputs];
        c.bias_gradient[o] = sum;
    }

    const HeadCall<T> c;
};

// signal (n, h) = errors (n, o) feedback^T, feedback (h, o): for as few rows, on one thread too.
template <class T>
void project(Index rows, Index hidden, Index outputs, const T* errors, const T* feedback, T* signal) {
    FlushSubnormals flush;
    const Index ld = padded<T>(hidden);
    const Buffer<T> transposed(outputs * ld);
    for (Index o = 0; o < outputs; ++o)
        for (Index j = 0; j < hidden; ++j) transposed.get()[o * ld + j] = feedback[j * outputs + o];
    for (Index n = 0; n < rows; ++n, errors += outputs, signal += hidden)
        each_vector<T>(hidden, [&](Index j, auto which) {
            Vec<T> sum = {};
            for (Index o = 0; o < outputs; ++o)
                sum = fma(broadcast(errors[o]), load(transposed.get() + o * ld + j, which), sum);
            store(signal + j, sum, which);
        });
}

}  // namespace kernels
