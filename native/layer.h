// One recurrent layer as the kernels see it: sizes, weights, and what it did over a sequence.
#pragma once

#include "multiply.h"
#include "pages.h"
#include "parallel.h"

namespace kernels {

enum class Cell : int { rnn = 0, gru = 1, gru_reset_before = 2, lstm = 3 };

inline bool is_gru(Cell cell) { return cell == Cell::gru || cell == Cell::gru_reset_before; }
inline Index gates_of(Cell cell) { return cell == Cell::rnn ? 1 : cell == Cell::lstm ? 4 : 3; }

// Tensors are contiguous, time first: row t * batch + b. Weights and gate order are torch.nn's.
template <class T>
struct Layer {
    Cell cell;
    Index threads, steps, batch, inputs, hidden;
    T gain;  // 1/tau: how far the leaky RNN moves in one step
    const T *ih, *hh;      // (g, i), (g, h)
    const T *b_ih, *b_hh;  // (g) or null

    Index nodes() const { return gates_of(cell) * hidden; }
};

// What a layer did: states have one row block more than the rest (index 0 is the initial state).
template <class T>
struct History {
    T *h, *c;      // (t + 1, b, h); c only for the LSTM
    T* gates;      // (t, b, g); for the plain RNN the same memory as h from its second block on
    T* auxiliary;  // (t, b, h), null for the RNN
    bool from_zero = false;  // whether the initial state is zero: products with it are left out

    void expect_all_writes(const Layer<T>& layer) const {
        const Index rows = layer.steps * layer.batch;
        expect_writes(h, (rows + layer.batch) * layer.hidden);
        expect_writes(c, (rows + layer.batch) * layer.hidden);
        expect_writes(gates, rows * layer.nodes());
        expect_writes(auxiliary, rows * layer.hidden);
    }
};

}  // namespace kernels
