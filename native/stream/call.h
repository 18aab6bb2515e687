// What one call of a stream is told: sizes, numbers and addresses, under the names that `kernels/native_stream.py`
// gives them. Every field is eight bytes wide and both sides list them in the same order; an address is 0 for
// "none". The tensors behind the addresses are torch's own and are changed in place.
#pragma once

#include <cstdint>

namespace kernels {

using Address = std::int64_t;

// A parameter (rows, columns) and what the optimizer keeps of it. group < 0: it does not learn.
struct ParameterCall {
    Address value, first, second, step;
    std::int64_t group;
};

// Of one group of the optimizer's parameters. decay: of the second moment.
struct GroupCall {
    double lr, weight_decay, momentum, dampening, decay, epsilon;
    std::int64_t nesterov;
};

// One layer: ih, hh, b_ih, b_hh in this order wherever there are four. Of element-wise units: V, u or nu, b, theta.
struct LayerCall {
    ParameterCall parameters[4];
    Address feedback;   // F (h, o), or none
    Address decorrelation;  // D (h, h), or none
    Address traces[2][4];  // eligibility by state, (b, *parameter)
    Address credits[4];    // traces of perturbation, (b, copies, *parameter)
};

// steps: to make, and, after the call, those that were made.
struct StreamCall {
    std::int64_t bytes, threads, steps, batch, inputs, hidden, outputs, layers;
    std::int64_t cell, credit, trace, loss, optimizer, optimizer_decouples;
    std::int64_t directions, antithetic, orthogonal, carries, batch_reward, layer_norms;
    std::int64_t preserves_norm;  // of D's rows
    std::int64_t squash;  // what the features of element-wise units are: their states (0), relu (1) or tanh (2)
    double gain, sigma, credit_decay, label_smoothing;
    double denominator;  // of the mean loss; 0: each step has its own
    double clip;         // the largest norm of a step's gradient; 0: any
    double decorrelation_lr;  // 0: D stays
    std::uint64_t key;
    std::int64_t first_step;
    Address x, y, mask, class_weights;      // (t, b, i), (t, b, o) or int64 (t, b), (t, b), (o,)
    Address states, noisy_states;           // (b, copies, states, layers, h)
    ParameterCall readout, readout_bias;
    Address readout_credits[2];             // traces of perturbation
    Address groups, layer;                  // GroupCall[], LayerCall[layers]
    Address losses, out;                    // (t,), (t, b, o)
    std::int64_t peeks;                     // one step forward: the outputs alone, and nothing is changed
    std::int64_t readout_hidden;            // units of the readout's hidden layer, relu; 0: it is linear
    ParameterCall inner, inner_bias;        // of that layer: (readout_hidden, features), (readout_hidden)
};

enum class Spread { feedback, exact, nodes, activity, weights };
enum class Past { none, leak, diagonal };
enum class Penalty { squares, cross_entropy, binary };
enum class Descent { sgd, adam, rmsprop, none };  // none: gradients are summed in place of a first moment

}  // namespace kernels
