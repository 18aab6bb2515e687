// tanh and the logistic function, a few units in the last place from the truth.
//
// e^y, for |y| within the exponents there are: y = k ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 = r + r^2 s(r) with
// a polynomial s whose error is below the rounding; where 1 is added to it, one for e^r will do, of one term less.
//     sigma(x) = 1 / (1 + e^-x)
//     tanh x = -m / (2 + m)  with m = e^(-2|x|) - 1, and the sign of x put back  (double)
//     tanh x = x p(x^2) / q(x^2), the closest such quotient up to where tanh is 1  (float)
// The last takes half the operations, which wait for each other half as long; in double it would be of too high a
// degree. Nothing ever overflows, tanh is exactly odd and at most 1, and NaN stays NaN.
#pragma once

#include "simd.h"

namespace kernels {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
    static constexpr float limit = 87.0f;              // e^-limit is still a normal number
    static constexpr float round = 12582912.0f;        // 1.5 * 2^23: adding it rounds to an integer
    static constexpr float ln2_high = 0.693359375f;    // few bits: k * ln2_high is exact
    static constexpr float ln2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23;
    static constexpr float series[] = {1.38145406e-3f, 8.36874545e-3f, 4.16683890e-2f,
                                       1.66665211e-1f, 4.99999940e-1f};  // minimax
    static constexpr float power[] = {8.29031505e-3f, 4.18979302e-2f, 1.66676357e-1f,
                                      4.99991506e-1f, 9.99999702e-1f, 1.0f};
};
template <>
struct ExpConstants<double> {
    static constexpr double limit = 708.0;
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double ln2_high = 6.93145751953125e-1;
    static constexpr double ln2_low = 1.42860682030941723212e-6;
    static constexpr int mantissa = 52;
    static constexpr double series[] = {  // Taylor's
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
        1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
    static constexpr double power[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
        1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0,         1.0};
};

// Coefficients from the highest power down.
template <class T, std::size_t n>
inline Vec<T> polynomial(const T (&coefficients)[n], Vec<T> x) {
    Vec<T> sum = broadcast(coefficients[0]);
#pragma GCC unroll 16
    for (std::size_t i = 1; i < n; ++i) sum = fma(sum, x, broadcast(coefficients[i]));
    return sum;
}

template <class T>
inline Vec<T> clamp(Vec<T> x, T limit) {
    return larger(broadcast(-limit), smaller(broadcast(limit), x));  // NaN stays
}

// e^y = scale * e^r, |r| <= ln 2 / 2; y beyond `limit` on either side counts as the limit.
template <class T>
struct Reduced {
    Vec<T> scale, r;
};

template <class T>
inline Reduced<T> reduced(Vec<T> any, T limit) {
    using C = ExpConstants<T>;
    const Vec<T> y = clamp(any, limit);
    const Vec<T> shifted = fma(y, broadcast<T>(1.44269504088896340736), broadcast(C::round));
    const Vec<T> k = shifted - C::round;
    // The low bits of `shifted` are k: moved to the exponent of 1, they make 2^k.
    const BitVec<T> scale = ((BitVec<T>)shifted << C::mantissa) + (BitVec<T>)broadcast<T>(1);
    return {(Vec<T>)scale, fma(k, broadcast(-C::ln2_low), fma(k, broadcast(-C::ln2_high), y))};
}

// e^y = scale * (1 + tail).
template <class T>
struct Exponential {
    Vec<T> scale, tail;
};

template <class T>
inline Exponential<T> exponential(Vec<T> y) {
    const Reduced<T> x = reduced<T>(y, ExpConstants<T>::limit);
    return {x.scale, fma(polynomial(ExpConstants<T>::series, x.r) * x.r, x.r, x.r)};
}

// 1 + e^-x, by which the logistic function divides 1.
template <class T>
inline Vec<T> logistic_divisor(Vec<T> any, T limit = ExpConstants<T>::limit) {
    const Reduced<T> x = reduced<T>(-any, limit);
    return fma(polynomial(ExpConstants<T>::power, x.r), x.scale, broadcast<T>(1));
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
    return T(1) / logistic_divisor<T>(x);
}

// Before the division: those that meet in a product share one.
template <class T>
struct Quotient {
    Vec<T> over, under;
};

template <class T>
inline Quotient<T> tanh_quotient(Vec<T> x) {
    if constexpr (sizeof(T) == 4) {
        constexpr T numerator[] = {0.000114084068f, 0.0297655596f};
        constexpr T denominator[] = {1.22564406e-06f, 0.00120569755f, 0.113098844f};
        const Vec<T> near = clamp(x, T(9.04)), square = near * near;  // there it is 1: the slope is 0 beyond
        const Vec<T> n = fma(near * square, polynomial(numerator, square), near);
        const Vec<T> e = square * polynomial(denominator, square);  // d - 1
        const Vec<T> w = fma(n * T(0.25), n, e * (e + T(2)));       // d^2 + n^2 / 4 - 1
        return {fma(n, e, n), w + T(1)};
    } else {
        const BitVec<T> sign = (BitVec<T>)x & (BitVec<T>)broadcast<T>(-0.0);
        const Exponential<T> e = exponential<T>((Vec<T>)((BitVec<T>)x | (BitVec<T>)broadcast<T>(-0.0)) * T(2));
        const Vec<T> minus = fma(e.scale, e.tail, e.scale - T(1));  // e^(-2|x|) - 1, in (-1, 0]
        return {(Vec<T>)((BitVec<T>)-minus | sign), minus + T(2)};
    }
}

template <class T>
inline Vec<T> tanh(Vec<T> x) {
    const Quotient<T> q = tanh_quotient<T>(x);
    return clamp(q.over / q.under, T(1));
}

}  // namespace kernels
