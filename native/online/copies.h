// Before the first step and after the last: matrices that lie well for the loop, from torch's tensors and back.
#pragma once

#include "online.h"

namespace kernels {

template <class T>
inline void Online<T>::begin(Index part) {
    each_block(part, m, [&](Index first, Index valid) {
        for (Index i = first; i < first + valid; ++i) {
            copy(c.hh + i * c.hidden, c.hidden, m.row(i));
            copy(c.ih + i * c.inputs, c.inputs, m.row(i) + c.hidden);
            if (biases) {
                m.row(i)[c.hidden + c.inputs] = c.b_ih[i];
                m.row(i)[c.hidden + c.inputs + 1] = c.b_hh[i];
            }
            if (c.decorrelation) copy(c.decorrelation + i * c.hidden, c.hidden, d.row(i));
            for (Index b = 0; c.trace && b < c.batch; ++b) load_trace(b, i);
        }
    });
    each_block(part, u, [&](Index first, Index valid) {
        for (Index o = first; o < first + valid; ++o) {
            copy(c.readout + o * c.hidden, c.hidden, u.row(o));
            if (c.readout_bias) u.row(o)[c.hidden] = c.readout_bias[o];
        }
    });
    const Index first = first_unit(part), count = first_unit(part + 1) - first;
    for (Index b = 0; b < c.batch; ++b) {
        copy(c.h + b * c.hidden + first, count, h.row(b) + first);
        if (c.noisy) copy(c.noisy + b * c.hidden + first, count, h.row(c.batch + b) + first);
    }
    if (part == 0) {
        for (Index r = 0; r < rows; ++r)
            for (Rows<T>& pre : entering)
                for (Index k = 0; k < biases; ++k) pre.row(r)[c.hidden + c.inputs + k] = 1;
        for (Index r = 0; r < rows; ++r)
            for (Rows<T>& f : features)
                if (c.readout_bias) f.row(r)[c.hidden] = 1;
        enter_inputs(0);
    }
    draw(part, 0);
}

template <class T>
inline void Online<T>::enter_first(Index part) {
    Rows<T>& pre = entering_at(0);
    if (c.decorrelation)
        enter_decorrelated(part, pre);
    else
        each_own(part, [&](Index j, auto which) {
            for (Index r = 0; r < rows; ++r)
                store(pre.row(r) + j, load(h.row(r) + j, which), which);
        });
}

// What the last step has left to learn.
template <class T>
inline void Online<T>::learn_last(Index part, const Mine& mine) {
    if (!c.steps) return;
    each_block(part, m, [&](Index first, Index valid) {
        learn_block(first, c.steps, mine);
        if (c.decorrelation && !c.preserve) learn_decorrelation(first);
        note(is_finite(m, first, valid) && (!c.decorrelation || is_finite(d, first, valid)));
    });
    each_block(part, u, [&](Index first, Index valid) {
        learn_readout(first, c.steps, mine);
        note(is_finite(u, first, valid));
    });
}

// 0 x is 0 for whatever is finite.
template <class T>
inline bool Online<T>::is_finite(const Rows<T>& matrix, Index first, Index rows) {
    Vec<T> sum = {};
    const T *from = matrix.row(first), *end = from + rows * matrix.stride;
    for (; from < end; from += kLanes<T>) sum = fma(load(from), Vec<T>{}, sum);
    T all = 0;
    for (Index lane = 0; lane < kLanes<T>; ++lane) all += sum[lane];
    return all == 0;
}

template <class T>
inline void Online<T>::end(Index part) {
    each_block(part, m, [&](Index first, Index valid) {
        for (Index i = first; i < first + valid; ++i) {
            copy(m.row(i), c.hidden, c.hh + i * c.hidden);
            copy(m.row(i) + c.hidden, c.inputs, c.ih + i * c.inputs);
            if (biases) {
                c.b_ih[i] = m.row(i)[c.hidden + c.inputs];
                c.b_hh[i] = m.row(i)[c.hidden + c.inputs + 1];
            }
            if (c.decorrelation) copy(d.row(i), c.hidden, c.decorrelation + i * c.hidden);
            for (Index b = 0; c.trace && b < c.batch; ++b) save_trace(b, i);
        }
    });
    each_block(part, u, [&](Index first, Index valid) {
        for (Index o = first; o < first + valid; ++o) {
            copy(u.row(o), c.hidden, c.readout + o * c.hidden);
            if (c.readout_bias) c.readout_bias[o] = u.row(o)[c.hidden];
        }
    });
    const Index first = first_unit(part), count = first_unit(part + 1) - first;
    for (Index b = 0; b < c.batch; ++b) {
        copy(h.row(b) + first, count, c.h + b * c.hidden + first);
        if (c.noisy) copy(h.row(c.batch + b) + first, count, c.noisy + b * c.hidden + first);
    }
}

template <class T>
inline void Online<T>::load_trace(Index b, Index i) {
    const T* from = c.trace + (b * c.hidden + i) * trace_width();
    copy(from, trace_width(), trace_row(b, i));
    if (biases) trace_row(b, i)[trace_width()] = from[trace_width() - 1];
}

template <class T>
inline void Online<T>::save_trace(Index b, Index i) {
    copy(trace_row(b, i), trace_width(), c.trace + (b * c.hidden + i) * trace_width());
}

}  // namespace kernels
