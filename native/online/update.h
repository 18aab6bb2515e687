// What a step leaves to learn, on four rows of a matrix at a time.
#pragma once

#include "online.h"

namespace kernels {

// What step t - 1 has left for these rows of M.
template <class T>
inline void Online<T>::learn_block(Index first, Index t, const Mine& mine) {
    const Rows<T>& pre = entering_at(t - 1);
    T* block = m.row(first);
    if (c.kind == Learning::wp)
        learn_noise(block, m_noise.row(first), m.stride, mine);
    else if (c.trace)
        learn_traced(first, pre);
    else
        learn<T>(block, m.stride, nullptr, {delta.begin() + first, units, c.batch},
                 {pre.begin(), m.stride, c.batch});
}

template <class T>
inline void Online<T>::learn_traced(Index first, const Rows<T>& pre) {
    const Vec<T> keep = broadcast(T(1 - c.gain));
    for (Index i = first; i < first + kRows; ++i)
        for (Index b = 0; b < c.batch; ++b) {
            const Vec<T> rise = broadcast(slope.row(b)[i]), by = broadcast(delta.row(b)[i]);
            for (Index j = 0; j < m.stride; j += kLanes<T>) {
                const Vec<T> entered = load(pre.row(b) + j) * rise;
                const Vec<T> p = fma(load(trace_row(b, i) + j), keep, entered);
                store(trace_row(b, i) + j, p);
                store(m.row(i) + j, fma(p, by, load(m.row(i) + j)));
            }
        }
}

template <class T>
inline void Online<T>::learn_readout(Index first, Index t, const Mine& mine) {
    const Rows<T>& f = features_at(t - 1);
    T* block = u.row(first);
    if (c.kind == Learning::wp)
        learn_noise(block, u_noise.row(first), u.stride, mine);
    else
        learn<T>(block, u.stride, nullptr, {mine.readout.begin() + first, nodes, c.batch},
                 {f.begin(), u.stride, c.batch});
}

template <class T>
inline void Online<T>::learn_noise(T* block, const T* drawn, Index stride, const Mine& mine) {
    const Vec<T> by = broadcast(mine.weight_credit);
    for (Index j = 0; j < kRows * stride; j += kLanes<T>)
        store(block + j, fma(load(drawn + j), by, load(block + j)));
}

// The coefficients of D <- (1 + eps <h*^2>) D - eps <h* (h*^T D)>, row by row.
template <class T>
inline void Online<T>::plan_decorrelation(Index part, Index t) {
    const T rate = c.decorrelation_lr / T(c.batch);
    each_own(part, [&](Index j, auto which) {
        Vec<T> sum = {};
        for (Index b = 0; b < c.batch; ++b) {
            const Vec<T> f = load(features_at(t).row(b) + j, which);
            sum = fma(f, f, sum);
            store(correlate.row(b) + j, f * -rate, which);
        }
        store(correlate_scale.begin() + j, fma(sum, broadcast(rate), broadcast(T(1))), which);
    });
}

template <class T>
inline void Online<T>::learn_decorrelation(Index first) {
    learn<T>(d.row(first), d.stride, correlate_scale.begin() + first,
             {correlate.begin() + first, units, c.batch}, {carried.begin(), d.stride, c.batch});
}

template <class T>
inline void Online<T>::learn_preserving(Index first) {
    T before[kRows];
    for (Index r = 0; r < kRows; ++r) before[r] = dot(d.row(first + r), d.row(first + r));
    learn_decorrelation(first);
    for (Index r = 0; r < kRows; ++r) {
        T* row = d.row(first + r);
        const T after = dot(row, row), by = after > 0 ? std::sqrt(before[r] / after) : T(1);
        for (Index j = 0; j < d.stride; j += kLanes<T>) store(row + j, load(row + j) * by);
    }
}

}  // namespace kernels
