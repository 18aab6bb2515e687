// Gaussian noise as a function of where it is: the values of `timelocal.kernels.torch_noise`, in vectors.
//
//     normal(seed, step, place, element) = Box-Muller of Threefry-2x32-13
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

constexpr int kRounds = 13;

// Round `number` of Threefry-2x32 (Salmon et al. 2011) for N counters, of which each waits for its own last
// round. Word: a single word or a vector of them. The key joins before the first and after every fourth round.
template <int number, class Word, int N>
inline __attribute__((always_inline)) void threefry_round(Key key, Word (&x)[N], Word (&y)[N]) {
    constexpr int rotations[] = {13, 15, 26, 6, 17, 29, 16, 24}, by = rotations[(number - 1) % 8];
    constexpr std::uint32_t block = number / 4;
    const std::uint32_t keys[] = {key.low, key.high, key.low ^ key.high ^ 0x1BD11BDAu};
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        if (number == 1) x[n] += keys[0], y[n] += keys[1];
        x[n] += y[n];
        y[n] = ((y[n] << by) | (y[n] >> (32 - by))) ^ x[n];
        if (number % 4 == 0) x[n] += keys[block % 3], y[n] += keys[(block + 1) % 3] + block;
    }
}

constexpr auto kThreefry = std::make_integer_sequence<int, kRounds>();

// All rounds, with something else before each.
template <class Word, int N, int... number, class Other>
inline __attribute__((always_inline)) void threefry(Key key, Word (&x)[N], Word (&y)[N],
                                                    std::integer_sequence<int, number...>,
                                                    const Other& other) {
    ((other(number), threefry_round<number + 1>(key, x, y)), ...);
}

inline Key encrypted(Key key, std::uint32_t low, std::uint32_t high) {
    std::uint32_t x[] = {low}, y[] = {high};
    threefry(key, x, y, kThreefry, [](int) {});
    return {x[0], y[0]};
}

// Of step and place under the seed. From step 2^32 on the upper word of its number makes a seed of its own.
inline Key noise_key(std::uint64_t seed, std::int64_t step, std::uint32_t place) {
    Key key = {std::uint32_t(seed), std::uint32_t(seed >> 32)};
    if (step >> 32) key = encrypted(key, std::uint32_t(step >> 32), 0xFFFFFFFFu);
    return encrypted(key, std::uint32_t(step), place);
}

// Polynomials in z through the Chebyshev points of the interval, highest power first:
//     minus_log: -4 artanh(s) / s with z = s^2, |s| <= (sqrt 2 - 1) / (sqrt 2 + 1)
//     sine: sin(x pi / 2) / x and cosine: cos(x pi / 2) with z = x^2, |x| <= 1/2
template <class T>
struct NoiseConstants;
template <>
struct NoiseConstants<float> {
    static constexpr std::int32_t root_half = 0x3F3504F3 + (23 << 23);  // the bits of 2^23 sqrt 1/2
    static constexpr std::int32_t scale = 23 << 23;                     // those of 2^23, less 1's
    static constexpr float minus_log[] = {-0.598490607495f, -0.799496907518f, -1.33333630767f,
                                          -3.99999999726f};
    static constexpr float sine[] = {-0.00460214921281f, 0.0796802176478f, -0.645963477665f,
                                     1.57079632195f};
    static constexpr float cosine[] = {-0.020408158393f, 0.253598571303f, -1.23369700742f,
                                       0.999999972328f};
};
template <>
struct NoiseConstants<double> {
    static constexpr std::int64_t root_half = 0x3FE6A09E667F3BCD + (std::int64_t(23) << 52);
    static constexpr std::int64_t scale = std::int64_t(23) << 52;
    static constexpr double minus_log[] = {-0.296197351446261277, -0.306250262294765955, -0.3636726448323405, -0.444443940928085455, -0.57142857521476561, -0.79999999998603824, -1.33333333333335293, -4.0};
    static constexpr double sine[] = {5.63393378153785395e-8, -3.5986433529823097e-6, 0.000160441150742190911, -0.00468175413234097599, 0.0796926262460430031, -0.645964097506244316, 1.57079632679489661};
    static constexpr double cosine[] = {-6.32125686962858841e-9, 4.71060972675782301e-7, -0.0000252020367704602584, 0.000919260274183155721, -0.0208634807633112091, 0.253669507901046709, -1.23370055013616981, 1.0};
};

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

// Words to lanes: the upper bits of each lane are the word's.
template <class T>
inline BitVec<T> spread(typename WordsOf<T>::Words words) {
    return __builtin_convertvector((typename WordsOf<T>::Signed)words, BitVec<T>)
           << (8 * int(sizeof(T)) - 32);
}

// Two words per lane to a radius sqrt(-2 ln u) and an angle, of N vectors, in pieces of which those of one
// vector wait for each other.
template <class T, int N>
struct BoxMuller {
    using C = NoiseConstants<T>;
    using Words = typename WordsOf<T>::Words;
    using Signed = typename WordsOf<T>::Signed;
    static constexpr int pieces = 3 * N;

    // at(n): where the cosines of vector n go, and half a group further its sines.
    template <class At>
    inline __attribute__((always_inline)) void piece(int number, const Words (&x)[N], const Words (&y)[N],
                                                     const At& at) {
        const int n = number % N;
        if (number < N)
            take_apart(n, x[n]);
        else if (number < 2 * N)
            radius[n] = root(fma(exponent[n], broadcast<T>(-1.38629436111989061883),
                                 s[n] * polynomial(C::minus_log, s[n] * s[n])));
        else
            turn(n, y[n], at(n));
    }

    // u = 2^exponent m with m in [sqrt 1/2, sqrt 2), and s = (m - 1) / (m + 1).
    inline __attribute__((always_inline)) void take_apart(int n, Words x) {
        constexpr int mantissa = ExpConstants<T>::mantissa;
        const Vec<T> v = __builtin_convertvector((Signed)(x >> 9), Vec<T>) + T(0.5);
        const BitVec<T> power = ((BitVec<T>)v - C::root_half) >> mantissa;
        const Vec<T> m = (Vec<T>)((BitVec<T>)v - C::scale - (power << mantissa));
        exponent[n] = __builtin_convertvector(power, Vec<T>);
        s[n] = (m - T(1)) / (m + T(1));
    }

    // The second word, without its last 9 bits, is the angle: a quarter of the circle, and a rest within an
    // eighth on either side.
    inline __attribute__((always_inline)) void turn(int n, Words y, T* at) {
        const BitVec<T> sign = (BitVec<T>)broadcast<T>(-0.0);
        const Vec<T> angle = fma(__builtin_convertvector((Signed)(y << 2) >> 11, Vec<T>),
                                 broadcast<T>(1.0 / 2097152), broadcast<T>(0.5 / 2097152));
        const Vec<T> z = angle * angle;
        const Vec<T> sine = radius[n] * (angle * polynomial(C::sine, z));
        const Vec<T> cosine = radius[n] * polynomial(C::cosine, z);
        const BitVec<T> quarter = spread<T>(y + 0x20000000u), next = spread<T>(y + 0x60000000u);
        const BitVec<T> odd = (quarter & (sign >> 1 & ~sign)) != 0;
        store(at, (Vec<T>)((BitVec<T>)(odd ? sine : cosine) ^ (next & sign)));
        store(at + kNoiseGroup / 2, (Vec<T>)((BitVec<T>)(odd ? cosine : sine) ^ (quarter & sign)));
    }

    Vec<T> exponent[N], s[N], radius[N];
};

// The elements of group q and those after it, `Groups` groups at a time: place(i) tells where those of time i
// go, done(i) that they are there. Between the rounds of one time lie the pieces of the time before: each
// alone would leave the processor idle.
template <class T, int Groups, class Place, class Done>
inline void noise_groups(Key key, Index q, Index times, const Place& place, const Done& done) {
    constexpr Index half = kNoiseGroup / 2;
    constexpr int vectors = int(half / kLanes<T>), N = Groups * vectors;
    using Words = typename WordsOf<T>::Words;
    Words counter, x[N], y[N];
#pragma GCC unroll 16
    for (Index lane = 0; lane < kLanes<T>; ++lane) counter[lane] = std::uint32_t(lane);
    counter += std::uint32_t(q * half);
    const auto begin = [&](Words(&x)[N], Words(&y)[N]) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            x[n] = counter, y[n] = Words{};
            counter += std::uint32_t(kLanes<T>);
        }
    };
    begin(x, y);
    threefry(key, x, y, kThreefry, [](int) {});
    for (Index i = 0; i < times; ++i) {
        T* out = place(i);
        BoxMuller<T, N> normals;
        const auto some = [&](int round) __attribute__((always_inline)) {
            constexpr int all = normals.pieces, each = (all + kRounds - 1) / kRounds;
#pragma GCC unroll 4
            for (int number = round * each; number < (round + 1) * each; ++number)
                if (number < all)
                    normals.piece(number, x, y, [&](int n) __attribute__((always_inline)) {
                        return out + n / vectors * kNoiseGroup + n % vectors * kLanes<T>;
                    });
        };
        if (i + 1 == times) {
#pragma GCC unroll 13
            for (int round = 0; round < kRounds; ++round) some(round);
            return done(i);
        }
        Words later[N], angles[N];
        begin(later, angles);
        threefry(key, later, angles, kThreefry, some);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) x[n] = later[n], y[n] = angles[n];
        done(i);
    }
}

// As `fill_noise`, so many groups at a time.
template <class T, int Groups>
void fill_noise_by(Key key, Index first, Index last, Index columns, T* out, Index stride) {
    constexpr Index count = Groups * kNoiseGroup;
    const Index q = first / kNoiseGroup, begin = q * kNoiseGroup;
    T drawn[count];
    Index column = 0;
    bool direct = false;
    const auto place = [&](Index i) __attribute__((always_inline)) {
        const Index at = begin + i * count;
        direct = at >= first && at + count <= last && column + count <= columns;
        return direct ? out + column : drawn;
    };
    const auto move_on = [&](Index by) __attribute__((always_inline)) {
        column += by;
        if (column == columns) column = 0, out += stride;
    };
    const auto done = [&](Index i) __attribute__((always_inline)) {
        if (direct) return move_on(count);
        const Index at = begin + i * count, end = last - at < count ? last - at : count;
        for (Index n = at < first ? first - at : 0; n < end;) {
            const Index part = columns - column < end - n ? columns - column : end - n;
            std::memcpy(out + column, drawn + n, std::size_t(part) * sizeof(T));
            n += part;
            move_on(part);
        }
    };
    noise_groups<T, Groups>(key, q, (last - begin + count - 1) / count, place, done);
}

// Elements [first, last) of one step and place, a matrix of so many columns, to rows that are `stride`
// apart; element `first` begins a row and goes to `out`.
template <class T>
void fill_noise(Key key, Index first, Index last, Index columns, T* out, Index stride) {
    constexpr int groups = kLanes<T> < 8 ? 1 : int(kLanes<T> / 4);  // four vectors of counters at once
    if ((last - 1) / kNoiseGroup > first / kNoiseGroup)
        fill_noise_by<T, groups>(key, first, last, columns, out, stride);
    else
        fill_noise_by<T, 1>(key, first, last, columns, out, stride);
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
            fill_noise<T>(noise_key(seed, first_step + step, place), first, last, last - first,
                          out + step * count + first, 0);
            at += stop - q;
        }
    });
}

}  // namespace kernels
