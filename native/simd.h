// Vectors of the machine the file is compiled for: load, store, fused multiply-add, tails.
//
// GCC/Clang vector types carry the arithmetic; intrinsics appear only where the language has no word
// for an instruction. Every lane of a row is computed by the same instructions, the tail included, so a
// result does not depend on where in the vector an element falls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kernels {

using Index = std::ptrdiff_t;

#if defined(__AVX512F__)
constexpr Index kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr Index kVectorBytes = 32;
#else
constexpr Index kVectorBytes = 16;
#endif

// Accumulators of the multiply: rows x vectors, as many as the registers hold beside the operands.
constexpr Index kTileRows = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr Index kTileVectors = 4;  // of 32 registers
#else
constexpr Index kTileVectors = 2;  // of 16 registers
#endif

template <class T>
struct BitsOf;
template <>
struct BitsOf<float> {
    using type = std::int32_t;
};
template <>
struct BitsOf<double> {
    using type = std::int64_t;
};

template <class T>
struct Simd {
    using Bit = typename BitsOf<T>::type;
    typedef T Vector __attribute__((vector_size(kVectorBytes)));
    typedef Bit Bits __attribute__((vector_size(kVectorBytes)));
    typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T))));
    static constexpr Index lanes = kVectorBytes / sizeof(T);
};

template <class T>
using Vec = typename Simd<T>::Vector;
template <class T>
using BitVec = typename Simd<T>::Bits;
template <class T>
constexpr Index kLanes = Simd<T>::lanes;

template <class T>
constexpr Index padded(Index n) {
    return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
inline Vec<T> broadcast(T x) {
    return x - Vec<T>{};  // x - 0 keeps the sign of zero, and NaN
}

// Which lanes of a vector lie inside the row: all, or the first `count`.
struct Whole {};
struct Part {
    Index count;
};

template <class T>
inline Vec<T> load(const T* p, Whole = {}) {
    return *reinterpret_cast<const typename Simd<T>::Unaligned*>(p);
}
inline void store(float* p, Vec<float> v, Whole = {}) {
    *reinterpret_cast<Simd<float>::Unaligned*>(p) = v;
}
inline void store(double* p, Vec<double> v, Whole = {}) {
    *reinterpret_cast<Simd<double>::Unaligned*>(p) = v;
}

#if defined(__AVX512F__)

inline Vec<float> load(const float* p, Part part) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << part.count) - 1), p);
}
inline Vec<double> load(const double* p, Part part) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << part.count) - 1), p);
}
inline void store(float* p, Vec<float> v, Part part) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << part.count) - 1), (__m512)v);
}
inline void store(double* p, Vec<double> v, Part part) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << part.count) - 1), (__m512d)v);
}
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

inline Vec<float> larger(Vec<float> a, Vec<float> b) {
    return (Vec<float>)_mm512_max_ps((__m512)a, (__m512)b);
}
inline Vec<double> larger(Vec<double> a, Vec<double> b) {
    return (Vec<double>)_mm512_max_pd((__m512d)a, (__m512d)b);
}
inline Vec<float> smaller(Vec<float> a, Vec<float> b) {
    return (Vec<float>)_mm512_min_ps((__m512)a, (__m512)b);
}
inline Vec<double> smaller(Vec<double> a, Vec<double> b) {
    return (Vec<double>)_mm512_min_pd((__m512d)a, (__m512d)b);
}

#elif defined(__AVX2__)

inline __m256i head(Index bytes) {  // a mask whose first `bytes` bytes are set
    alignas(32) static const std::int8_t window[64] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i*)(window + 32 - bytes));
}
inline Vec<float> load(const float* p, Part part) {
    return (Vec<float>)_mm256_maskload_ps(p, head(4 * part.count));
}
inline Vec<double> load(const double* p, Part part) {
    return (Vec<double>)_mm256_maskload_pd(p, head(8 * part.count));
}
// In halves: on some processors a masked store takes as long as a whole tanh.
inline void store(float* p, Vec<float> v, Part part) {
    __m128 rest = _mm256_castps256_ps128((__m256)v);
    if (part.count & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps((__m256)v, 1);
        p += 4;
    }
    if (part.count & 2) {
        _mm_storel_pi((__m64*)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (part.count & 1) _mm_store_ss(p, rest);
}
inline void store(double* p, Vec<double> v, Part part) {
    __m128d rest = _mm256_castpd256_pd128((__m256d)v);
    if (part.count & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd((__m256d)v, 1);
        p += 2;
    }
    if (part.count & 1) _mm_store_sd(p, rest);
}
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
inline Vec<float> larger(Vec<float> a, Vec<float> b) {
    return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b);
}
inline Vec<double> larger(Vec<double> a, Vec<double> b) {
    return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)b);
}
inline Vec<float> smaller(Vec<float> a, Vec<float> b) {
    return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)b);
}
inline Vec<double> smaller(Vec<double> a, Vec<double> b) {
    return (Vec<double>)_mm256_min_pd((__m256d)a, (__m256d)b);
}

#else

template <class T>
inline Vec<T> load(const T* p, Part part) {
    Vec<T> v{};
    for (Index i = 0; i < part.count; ++i) v[i] = p[i];
    return v;
}
inline void store(float* p, Vec<float> v, Part part) {
    for (Index i = 0; i < part.count; ++i) p[i] = v[i];
}
inline void store(double* p, Vec<double> v, Part part) {
    for (Index i = 0; i < part.count; ++i) p[i] = v[i];
}
#if defined(__aarch64__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return a * b + c; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return a * b + c; }
#endif
inline Vec<float> larger(Vec<float> a, Vec<float> b) { return a > b ? a : b; }
inline Vec<double> larger(Vec<double> a, Vec<double> b) { return a > b ? a : b; }
inline Vec<float> smaller(Vec<float> a, Vec<float> b) { return a < b ? a : b; }
inline Vec<double> smaller(Vec<double> a, Vec<double> b) { return a < b ? a : b; }

#endif

// Lanes whose number has the bit S set change places between a and b with those that have not.
template <class T, Index S, std::size_t... P>
inline __attribute__((always_inline)) void exchange(Vec<T>& a, Vec<T>& b, std::index_sequence<P...>) {
    constexpr Index lanes = kLanes<T>;
    const Vec<T> low = __builtin_shufflevector(a, b, (Index(P) & S ? int(P) - int(S) + int(lanes) : int(P))...);
    b = __builtin_shufflevector(a, b, (Index(P) & S ? int(P) + int(lanes) : int(P) + int(S))...);
    a = low;
}

// Lane j of v[i] and lane i of v[j] change places, for as many vectors as there are lanes.
template <class T, Index S = kLanes<T> / 2>
inline __attribute__((always_inline)) void transpose(Vec<T>* v) {
#pragma GCC unroll 16
    for (Index i = 0; i < kLanes<T>; ++i)
        if (!(i & S)) exchange<T, S>(v[i], v[i + S], std::make_index_sequence<kLanes<T>>());
    if constexpr (S > 1) transpose<T, S / 2>(v);
}

// Call body(j, which) for every vector that starts at j in the elements [from, to) of a row.
template <class T, class Body>
inline void each_vector(Index from, Index to, const Body& body) {
    Index j = from;
    for (; j + kLanes<T> <= to; j += kLanes<T>) body(j, Whole{});
    if (j < to) body(j, Part{to - j});
}
template <class T, class Body>
inline void each_vector(Index n, const Body& body) {
    each_vector<T>(0, n, body);
}

}  // namespace kernels
