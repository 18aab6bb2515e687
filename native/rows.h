// A matrix by its rows, four at a time: a step of learning, products with several vectors, and sums of rows.
//
// Rows are padded with zeros to whole vectors and their number to a multiple of four, so no loop has a
// tail. What is computed for a row does not depend on which thread or neighbour computes it.
#pragma once

#include <utility>

#include "multiply.h"

namespace kernels {

constexpr Index kRows = 4;
constexpr Index kSumRows = 5;   // sums of rows kept at once, by kTileVectors
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr Index kDots = 4;      // vectors multiplied at once: 16 sums of 32 registers
#else
constexpr Index kDots = 3;      // 12 sums of 16 registers, beside a vector each and a row
#endif

template <class T>
class Rows {
  public:
    Rows(Index rows, Index columns)
        : blocks((rows + kRows - 1) / kRows), rows(rows), stride(padded<T>(columns)),
          data_(blocks * kRows * stride) {
        std::memset(data_.get(), 0, std::size_t(blocks * kRows * stride) * sizeof(T));
    }
    T* row(Index i) const { return data_.get() + i * stride; }
    T* begin() const { return data_.get(); }

    const Index blocks, rows, stride;

  private:
    Buffer<T> data_;
};

// Several vectors side by side, vector n at `at + n * stride`.
template <class T>
struct Vectors {
    const T* at;
    Index stride, count;
};

template <class T, int V>
inline __attribute__((always_inline)) void learn_columns(T* m, Index stride, const T* scale,
                                                         const Vectors<T>& coefficients,
                                                         const Vectors<T>& entered, Index column) {
    Vec<T> w[kRows][V];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            w[r][v] = load(m + r * stride + column + v * kLanes<T>);
            if (scale) w[r][v] *= scale[r];
        }
    const T *factor = coefficients.at, *x = entered.at + column;
    for (Index n = coefficients.count; n > 0;
         --n, factor += coefficients.stride, x += entered.stride) {
        Vec<T> vector[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) vector[v] = load(x + v * kLanes<T>);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            const Vec<T> by = broadcast(factor[r]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) w[r][v] = fma(by, vector[v], w[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(m + r * stride + column + v * kLanes<T>, w[r][v]);
}

// Four rows: m_r <- scale_r m_r + sum_n coefficients_n[r] entered_n; scale may be null, for 1.
template <class T>
void learn(T* m, Index stride, const T* scale, const Vectors<T>& coefficients,
           const Vectors<T>& entered) {
    constexpr int wide = kDots;  // as many sums as in the products
    Index column = 0;
    for (; column + wide * kLanes<T> <= stride; column += wide * kLanes<T>)
        learn_columns<T, wide>(m, stride, scale, coefficients, entered, column);
    for (; column < stride; column += kLanes<T>)
        learn_columns<T, 1>(m, stride, scale, coefficients, entered, column);
}

// x and y hold blocks of 2 S lanes, each the parts of one sum; the result holds blocks of S, x's and y's in
// turn.
template <class T, Index S, std::size_t... P>
inline __attribute__((always_inline)) Vec<T> fold(Vec<T> x, Vec<T> y, std::index_sequence<P...>) {
    constexpr Index lanes = kLanes<T>;
    const Vec<T> low = __builtin_shufflevector(
        x, y, (int(P) % (2 * S) < S ? int(P) : int(P) - S + lanes)...);
    const Vec<T> high = __builtin_shufflevector(
        x, y, (int(P) % (2 * S) < S ? int(P) + S : int(P) + lanes)...);
    return low + high;
}

// Lane i of the result is the sum of the lanes of v[i].
template <class T, Index S = kLanes<T> / 2>
inline __attribute__((always_inline)) Vec<T> sums(Vec<T>* v) {
#pragma GCC unroll 16
    for (Index k = 0; k < S; ++k)
        v[k] = fold<T, S>(v[k], v[k + S], std::make_index_sequence<kLanes<T>>());
    if constexpr (S > 1) return sums<T, S / 2>(v);
    return v[0];
}

template <class T, int N>
inline void dots_of(const T* m, Index stride, const T* x, Index ldx, Index valid, T* out, Index ldo) {
    constexpr Index count = N * kRows, room = (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    Vec<T> sum[room] = {};
    for (Index column = 0; column < stride; column += kLanes<T>) {
        Vec<T> vector[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) vector[n] = load(x + n * ldx + column);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            const Vec<T> w = load(m + r * stride + column);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
                sum[n * kRows + r] = fma(w, vector[n], sum[n * kRows + r]);
        }
    }
    T found[room];
#pragma GCC unroll 8
    for (Index k = 0; k < room; k += kLanes<T>) store(found + k, sums<T>(sum + k));
    for (int n = 0; n < N; ++n)
        for (Index r = 0; r < valid; ++r) out[n * ldo + r] = found[n * kRows + r];
}

// Four rows, of which `valid` count: out_n[r] = m_r . x_n.
template <class T, int N = kDots>
void dots(const T* m, Index stride, Vectors<T> x, Index valid, T* out, Index ldo) {
    for (; x.count >= N; x.count -= N, x.at += N * x.stride, out += N * ldo)
        dots_of<T, N>(m, stride, x.at, x.stride, valid, out, ldo);
    if constexpr (N > 1)
        if (x.count) dots<T, N - 1>(m, stride, x, valid, out, ldo);
}

// Four rows and noise on them: out_n[r] = m_r . x_n for the first N, (m + by noise)_r . x_n for the next N.
template <class T, int N>
inline void shaken_dots_of(const T* m, const T* noise, T by, Index stride, const T* x, Index ldx,
                           Index shaken, Index valid, T* out, Index ldo) {
    constexpr Index count = 2 * N * kRows,
                    room = (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    Vec<T> sum[room] = {};
    const Vec<T> factor = broadcast(by);
    for (Index column = 0; column < stride; column += kLanes<T>) {
        Vec<T> w[kRows], v[kRows];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            w[r] = load(m + r * stride + column);
            v[r] = fma(load(noise + r * stride + column), factor, w[r]);
        }
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            const Vec<T> clean = load(x + n * ldx + column),
                         noisy = load(x + (shaken + n) * ldx + column);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                sum[n * kRows + r] = fma(w[r], clean, sum[n * kRows + r]);
                sum[(N + n) * kRows + r] = fma(v[r], noisy, sum[(N + n) * kRows + r]);
            }
        }
    }
    T found[room];
#pragma GCC unroll 8
    for (Index k = 0; k < room; k += kLanes<T>) store(found + k, sums<T>(sum + k));
    for (int n = 0; n < N; ++n)
        for (Index r = 0; r < valid; ++r) {
            out[n * ldo + r] = found[n * kRows + r];
            out[(shaken + n) * ldo + r] = found[(N + n) * kRows + r];
        }
}

// Four rows, of which `valid` count: the first half of the vectors meets m, the second m + by noise.
template <class T>
void shaken_dots(const T* m, const T* noise, T by, Index stride, const Vectors<T>& x, Index valid,
                 T* out, Index ldo) {
    constexpr int N = kDots / 2;
    const Index half = x.count / 2;
    Index n = 0;
    for (; n + N <= half; n += N)
        shaken_dots_of<T, N>(m, noise, by, stride, x.at + n * x.stride, x.stride, half, valid,
                             out + n * ldo, ldo);
    for (; n < half; ++n)
        shaken_dots_of<T, 1>(m, noise, by, stride, x.at + n * x.stride, x.stride, half, valid,
                             out + n * ldo, ldo);
}

template <class T, int N, int V>
inline void sum_rows_of(const T* m, Index stride, Index rows, const T* by, Index ldb, T* out, Index ldo) {
    Vec<T> sum[N][V];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[n][v] = load(out + n * ldo + v * kLanes<T>);
    for (Index i = 0; i < rows; ++i, m += stride) {
        Vec<T> w[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) w[v] = load(m + v * kLanes<T>);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const Vec<T> factor = broadcast(by[n * ldb + i]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[n][v] = fma(factor, w[v], sum[n][v]);
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(out + n * ldo + v * kLanes<T>, sum[n][v]);
}

// out_n[column, + V vectors) += sum_i coefficients_n[i] m_i over some rows.
template <class T, int V, int N = kSumRows>
void sum_columns(const T* m, Index stride, Index rows, Vectors<T> coefficients, T* out, Index ldo) {
    for (; coefficients.count >= N; coefficients.count -= N, out += N * ldo,
                                    coefficients.at += N * coefficients.stride)
        sum_rows_of<T, N, V>(m, stride, rows, coefficients.at, coefficients.stride, out, ldo);
    if constexpr (N > 1)
        if (coefficients.count) sum_columns<T, V, N - 1>(m, stride, rows, coefficients, out, ldo);
}

// out_n += sum_i coefficients_n[i] m_i over `rows` rows of `stride` elements: few enough that V vectors of
// each stay in the first cache.
template <class T>
void sum_rows(const T* m, Index stride, Index rows, const Vectors<T>& coefficients, T* out,
              Index ldo) {
    constexpr Index wide = kTileVectors;
    Index column = 0;
    for (; column + wide * kLanes<T> <= stride; column += wide * kLanes<T>)
        sum_columns<T, wide>(m + column, stride, rows, coefficients, out + column, ldo);
    for (; column < stride; column += kLanes<T>)
        sum_columns<T, 1>(m + column, stride, rows, coefficients, out + column, ldo);
}

}  // namespace kernels
