// What one call over a whole sequence of an element-wise layer is told, under the names that
// `kernels/native_elementwise.py` gives them. Every field is eight bytes wide and both sides list them in the same
// order; an address is 0 for "none". Tensors are without gaps, time first: row t * batch + b.
#pragma once

#include <cstdint>

namespace kernels {

struct ElementwiseCall {
    using Address = std::int64_t;

    std::int64_t bytes, cell, threads, steps, batch, inputs, hidden;
    std::int64_t squash;                  // what the features are of the states: these (0), relu (1) or tanh (2)
    Address weight, bias, own[2];         // (g, i), (g,), and u, or nu and theta (h,)
    Address x, noise, initial[2];         // (t, b, i), (t, b, g), (b, h)
    Address states, features;             // (t + 1, b, s h) each, the states side by side; features where squashed
    Address gates, auxiliary;             // (t, b, g), (t, b, h)
    Address signal, last, lengths;        // at the features: (t, b, s h), (b, s h); steps of each sequence (b,)
    Address delta, carried[2];            // (t, b, g), (b, h): signals, replaced by those at the initial states
    Address made_weight, made_bias, made_own[2];  // gradients, in the parameters' shapes
};

}  // namespace kernels
