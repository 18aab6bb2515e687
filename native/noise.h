// Gaussian noise as a function of where it is: the values of `timelocal.kernels.torch_noise`, in vectors.
//
//     normal(seed, step, place, element) = Box-Muller of Threefry-2x32-20
//
// Elements 32 q + j and 32 q + 16 + j, j < 16, are the cosine and the sine that counter 16 q + j makes.
// The logarithm is e ln 2 + 2 artanh((m - 1) / (m + 1)) with m in [sqrt 1/2, sqrt 2), relative to its own
// size near 0; sine and cosine are Taylor's on an eighth of the circle.
#pragma once

#include <cmath>

#include "activations.h"
#include "parallel.h"

namespace kernels {

constexpr Index kNoiseGroup = 32;  // elements whose counters go together

struct Key {
    std::uint32_t low, high;
};

// One unsigned word per lane of a Vec<T>, and the same for a single one.
template <class T>
struct WordsOf {
    typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes<T>)));
    typedef std::int32_t Signed __attribute__((vector_size(4 * kLanes<T>)));
};

// Threefry-2x32, 20 rounds (Salmon et al. 2011), on single words or on vectors of them.
template <class Word>
inline __attribute__((always_inline)) void threefry(Key key, Word& x, Word& y) {
    constexpr int rotations[] = {13, 15, 26, 6, 17, 29, 16, 24};
    const std::uint32_t keys[] = {key.low, key.high, key.low ^ key.high ^ 0x1BD11BDAu};
    x += keys[0];
    y += keys[1];
#pragma GCC unroll 5
    for (std::uint32_t block = 0; block < 5; ++block) {
#pragma GCC unroll 4
        for (int round = 0; round < 4; ++round) {
            const int by = rotations[4 * (block % 2) + round];
            x += y;
            y = ((y << by) | (y >> (32 - by))) ^ x;
        }
        x += keys[(block + 1) % 3];
        y += keys[(block + 2) % 3] + (block + 1);
    }
}

inline Key noise_key(std::uint64_t seed, std::int64_t step, std::uint32_t place) {
    Key key{std::uint32_t(step), place};
    threefry({std::uint32_t(seed), std::uint32_t(seed >> 32)}, key.low, key.high);
    return key;
}

template <class T>
struct NoiseConstants;
template <>
struct NoiseConstants<float> {
    static constexpr std::int32_t root_half = 0x3F3504F3;  // the bits of sqrt 1/2
    static constexpr float artanh[] = {1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3};
    static constexpr float sine[] = {1.0f / 362880, -1.0f / 5040, 1.0f / 120, -1.0f / 6};
    static constexpr float cosine[] = {1.0f / 40320, -1.0f / 720, 1.0f / 24, -1.0f / 2};
};
template <>
struct NoiseConstants<double> {
    static constexpr std::int64_t root_half = 0x3FE6A09E667F3BCD;
    static constexpr double artanh[] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                        1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
    static constexpr double sine[] = {-1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                                      1.0 / 362880,         -1.0 / 5040,      1.0 / 120,
                                      -1.0 / 6};
    static constexpr double cosine[] = {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600,
                                        -1.0 / 3628800,       1.0 / 40320,        -1.0 / 720,
                                        1.0 / 24,             -1.0 / 2};
};

// x (((c0 x + c1) x + c2) ...): a polynomial without its constant term.
template <class T, std::size_t N>
inline Vec<T> polynomial(Vec<T> x, const T (&series)[N]) {
    Vec<T> sum = broadcast(series[0]);
#pragma GCC unroll 16
    for (std::size_t n = 1; n < N; ++n) sum = fma(sum, x, broadcast(series[n]));
    return sum * x;
}

#if defined(__AVX512F__)
inline Vec<float> root(Vec<float> x) { return (Vec<float>)_mm512_sqrt_ps((__m512)x); }
inline Vec<double> root(Vec<double> x) { return (Vec<double>)_mm512_sqrt_pd((__m512d)x); }
#elif defined(__AVX2__)
inline Vec<float> root(Vec<float> x) { return (Vec<float>)_mm256_sqrt_ps((__m256)x); }
inline Vec<double> root(Vec<double> x) { return (Vec<double>)_mm256_sqrt_pd((__m256d)x); }
#else
template <class Vector>
inline Vector root(Vector x) {
    for (std::size_t i = 0; i < sizeof(Vector) / sizeof(x[0]); ++i) x[i] = std::sqrt(x[i]);
    return x;
}
#endif

// sqrt(-2 ln u) for u in (0, 1).
template <class T>
inline Vec<T> radius(Vec<T> u) {
    using C = NoiseConstants<T>;
    using E = ExpConstants<T>;
    const BitVec<T> exponent = ((BitVec<T>)u - C::root_half) >> E::mantissa;
    const Vec<T> m = (Vec<T>)((BitVec<T>)u - (exponent << E::mantissa));
    const Vec<T> k = __builtin_convertvector(exponent, Vec<T>);
    const Vec<T> f = m - T(1), s = f / (f + T(2)), twice = s + s;
    Vec<T> log = fma(twice, polynomial<T>(s * s, C::artanh), twice);
    log = fma(k, broadcast(E::ln2_high), fma(k, broadcast(E::ln2_low), log));
    return root(log * T(-2));
}

// The noise of one vector of counters: cosines and sines.
template <class T>
inline __attribute__((always_inline)) void box_muller(Key key, std::uint32_t counter, Vec<T>& cosines, Vec<T>& sines) {
    using C = NoiseConstants<T>;
    using Words = typename WordsOf<T>::Words;
    using Signed = typename WordsOf<T>::Signed;
    Words x, y = Words{};
#pragma GCC unroll 16
    for (Index lane = 0; lane < kLanes<T>; ++lane) x[lane] = std::uint32_t(lane);
    x += counter;
    threefry(key, x, y);

    const Vec<T> u = __builtin_convertvector((Signed)(x >> 9), Vec<T>) + T(0.5);
    const Vec<T> r = radius<T>(u * T(1.0 / 8388608));
    // The angle is (k + 1/2) / 2^23 of a circle: a quarter and a rest within an eighth on either side.
    const Signed k = (Signed)(y >> 9), quarter = (k + (1 << 20)) >> 21;
    const Vec<T> rest = (__builtin_convertvector(k - (quarter << 21), Vec<T>) + T(0.5)) *
                        T(1.57079632679489661923 / 2097152);
    const Vec<T> squared = rest * rest;
    const Vec<T> s = fma(rest, polynomial<T>(squared, C::sine), rest) * r;
    const Vec<T> c = fma(r, polynomial<T>(squared, C::cosine), r);
    const BitVec<T> turn = __builtin_convertvector(quarter, BitVec<T>);
    const BitVec<T> sign = (BitVec<T>)broadcast<T>(-0.0), odd = -(turn & 1);
    const BitVec<T> swap = ((BitVec<T>)s ^ (BitVec<T>)c) & odd;
    constexpr int top = 8 * sizeof(T) - 2;  // moves bit 1 to the sign
    sines = (Vec<T>)(((BitVec<T>)s ^ swap) ^ ((turn << top) & sign));
    cosines = (Vec<T>)(((BitVec<T>)c ^ swap) ^ (((turn + 1) << top) & sign));
}

// The 32 elements of group q.
template <class T>
inline void noise_group(Key key, Index q, T* out) {
    constexpr Index half = kNoiseGroup / 2;
#pragma GCC unroll 8
    for (Index j = 0; j < half; j += kLanes<T>) {
        Vec<T> cosines, sines;
        box_muller<T>(key, std::uint32_t(q * half + j), cosines, sines);
        store(out + j, cosines);
        store(out + half + j, sines);
    }
}

// Elements [first, last) of one step and place.
template <class T>
void fill_noise(Key key, Index first, Index last, T* out) {
    T group[kNoiseGroup];
    for (Index at = first; at < last;) {
        const Index q = at / kNoiseGroup, offset = at % kNoiseGroup;
        if (offset == 0 && at + kNoiseGroup <= last) {
            noise_group(key, q, out);
            at += kNoiseGroup;
            out += kNoiseGroup;
        } else {
            noise_group(key, q, group);
            const Index rest = kNoiseGroup - offset, count = last - at < rest ? last - at : rest;
            std::memcpy(out, group + offset, std::size_t(count) * sizeof(T));
            at += count;
            out += count;
        }
    }
}

// Noise (steps, count) of the steps from `first_step` on.
template <class T>
void normal(Index threads, std::uint64_t seed, std::int64_t first_step, Index steps,
            std::uint32_t place, Index count, T* out) {
    const Index groups = (count + kNoiseGroup - 1) / kNoiseGroup, all = steps * groups;
    const Index parts = parts_of(all, threads, 2e3 * double(all));
    parallel(parts, [&](Index part) {
        const Index end = all * (part + 1) / parts;
        for (Index at = all * part / parts; at < end;) {
            const Index step = at / groups, q = at % groups;
            const Index stop = end - at < groups - q ? q + end - at : groups;
            const Index first = q * kNoiseGroup,
                        last = stop * kNoiseGroup < count ? stop * kNoiseGroup : count;
            fill_noise<T>(noise_key(seed, first_step + step, place), first, last,
                          out + step * count + first);
            at += stop - q;
        }
    });
}

}  // namespace kernels
