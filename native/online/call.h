// What one call of the tanh layer's stream is told, under the names that `kernels/native_online.py` gives them.
// Every field is eight bytes wide and both sides list them in the same order; an address is 0 for "none".
#pragma once

#include <cstdint>

#include "../simd.h"
#include "../stream/head.h"

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
    const T *x, *y, *feedback;                                          // y: for noise; feedback: rflo's
    T *h, *noisy, *trace;  // may be null: noisy, where noise lasts one step, and trace
    T *losses, *out;
    Judge<T> loss;  // rules with noise know the squares alone
};

struct OnlineArguments {
    using Address = std::int64_t;

    std::int64_t bytes, kind, threads, steps, batch, inputs, hidden, outputs;
    std::int64_t directions, antithetic, orthogonal, batch_reward, layer_norms, preserve;
    std::int64_t loss;
    double gain, lr, decorrelation_lr, sigma, label_smoothing;
    std::uint64_t seed;
    std::int64_t first_step;
    Address ih, hh, b_ih, b_hh, readout, readout_bias, decorrelation;
    Address x, y, feedback, h, noisy, trace, losses, out;
    Address class_weights;

    template <class T>
    OnlineCall<T> call() const {
        const auto at = [](Address address) { return reinterpret_cast<T*>(address); };
        return {static_cast<Learning>(kind), threads, steps, batch, inputs, hidden, outputs, directions,
                antithetic != 0, orthogonal != 0, batch_reward != 0, layer_norms != 0, preserve != 0,
                T(gain), T(lr), T(decorrelation_lr), T(sigma), seed, first_step,
                at(ih), at(hh), at(b_ih), at(b_hh), at(readout), at(readout_bias), at(decorrelation),
                at(x), at(y), at(feedback), at(h), at(noisy), at(trace), at(losses), at(out), Judge<T>(*this)};
    }
};

}  // namespace kernels
