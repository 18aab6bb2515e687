// tanh and the logistic function, a few units in the last place from the truth.
//
// Both come from e^y for y <= 0, so nothing ever overflows: y = k ln 2 + r with |r| <= ln 2 / 2, and
// e^r - 1 by its Taylor series (1/n!), long enough that the first missing term is below the rounding.
//     tanh x = -m / (2 + m)          with m = e^(-2|x|) - 1, and the sign of x put back
//     sigma(x) = (x >= 0 ? 1 : e) / (1 + e)   with e = e^(-|x|)
// tanh is therefore exactly odd; NaN stays NaN.
#pragma once

#include "simd.h"

namespace kernels {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
    static constexpr float lowest = -87.0f;            // e^lowest is still a normal number
    static constexpr float round = 12582912.0f;        // 1.5 * 2^23: adding it rounds to an integer
    static constexpr float ln2_high = 0.693359375f;    // few bits: k * ln2_high is exact
    static constexpr float ln2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float series[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120,
                                       1.0f / 24,   1.0f / 6,   1.0f / 2};
};
template <>
struct ExpConstants<double> {
    static constexpr double lowest = -708.0;
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double ln2_high = 6.93145751953125e-1;
    static constexpr double ln2_low = 1.42860682030941723212e-6;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double series[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
        1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
};

// e^y = scale * (1 + tail) for y <= 0; y below `lowest` counts as `lowest`.
template <class T>
struct Exponential {
    Vec<T> scale, tail;
};

template <class T>
inline Exponential<T> exponential(Vec<T> y) {
    using C = ExpConstants<T>;
    const Vec<T> one = broadcast<T>(1);
    const Vec<T> lowest = broadcast(C::lowest);
    y = lowest > y ? lowest : y;  // false for NaN, which stays
    const Vec<T> shifted = fma(y, broadcast<T>(1.44269504088896340736), broadcast(C::round));
    const Vec<T> k = shifted - C::round;
    Vec<T> r = fma(k, broadcast(-C::ln2_high), y);
    r = fma(k, broadcast(-C::ln2_low), r);
    Vec<T> series = broadcast(C::series[0]);
    for (unsigned n = 1; n < sizeof(C::series) / sizeof(T); ++n)
        series = fma(series, r, broadcast(C::series[n]));
    const Vec<T> tail = fma(series * r, r, r);
    const BitVec<T> exponent = (BitVec<T>)shifted << C::mantissa;  // the low bits of `shifted` are k
    return {(Vec<T>)(exponent + (BitVec<T>)one), tail};
}

template <class T>
inline Vec<T> magnitude(Vec<T> x) {
    return (Vec<T>)((BitVec<T>)x & ~(BitVec<T>)broadcast<T>(-0.0));
}

template <class T>
inline Vec<T> tanh(Vec<T> x) {
    const BitVec<T> sign = (BitVec<T>)x & (BitVec<T>)broadcast<T>(-0.0);
    const Exponential<T> e = exponential<T>(magnitude<T>(x) * T(-2));
    const Vec<T> minus = fma(e.scale, e.tail, e.scale - T(1));  // e^(-2|x|) - 1, in (-1, 0]
    return (Vec<T>)((BitVec<T>)magnitude<T>(minus / (minus + T(2))) | sign);
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
    const Vec<T> one = broadcast<T>(1);
    const Exponential<T> parts = exponential<T>(-magnitude<T>(x));
    const Vec<T> e = fma(parts.scale, parts.tail, parts.scale);
    return (x >= T(0) ? one : e) / (e + T(1));
}

}  // namespace kernels
