// The most multiply-adds that a core does: a loop of nothing else, to hold kernels against.
#pragma once

#include "simd.h"

namespace kernels {

constexpr Index kPeakSums = 12;  // enough to fill the pipelines, few enough for 16 registers

// Two operations for every lane of every sum in every round.
template <class T>
double peak_operations(Index rounds) {
    return 2.0 * double(kPeakSums * kLanes<T>) * double(rounds);
}

template <class T>
T multiply_adds(Index rounds) {
    Vec<T> sums[kPeakSums];
    for (Index i = 0; i < kPeakSums; ++i) sums[i] = broadcast(T(i));
    const Vec<T> half = broadcast(T(0.5)), one = broadcast(T(1));
    for (Index round = 0; round < rounds; ++round)
#pragma GCC unroll 12
        for (Index i = 0; i < kPeakSums; ++i) sums[i] = fma(sums[i], half, one);
    T all = 0;
    for (Index i = 0; i < kPeakSums; ++i) all += sums[i][0];
    return all;  // so that the loop is for something
}

}  // namespace kernels
