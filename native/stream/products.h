// Products with matrices that lie as torch keeps them: rows without gaps, of any width.
#pragma once

#include "../rows.h"

namespace kernels {

// The N sums of M rows (ldw apart) with N vectors, columns j of both.
template <class T, int M, int N, class Which>
inline __attribute__((always_inline)) void add_products(Vec<T>* sum, const T* const (&w)[M], const T* x,
                                                        Index ldx, Index j, Which which) {
    Vec<T> vector[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) vector[n] = load(x + n * ldx + j, which);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
        const Vec<T> row = load(w[m] + j, which);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[n * M + m] = fma(row, vector[n], sum[n * M + m]);
    }
}

// out_n[m] = (adds: its own +) w_m . x_n for `valid` of M rows.
template <class T, int M, int N>
void multiply_block(const T* w, Index columns, Index valid, const T* x, Index ldx, T* out, Index ldo,
                    bool adds) {
    constexpr Index count = M * N, room = (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    const T* row[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) row[m] = w + (m < valid ? m : 0) * columns;
    Vec<T> sum[room] = {};
    Index j = 0;
    for (; j + kLanes<T> <= columns; j += kLanes<T>) add_products<T, M, N>(sum, row, x, ldx, j, Whole{});
    if (j < columns) add_products<T, M, N>(sum, row, x, ldx, j, Part{columns - j});
    T found[room];
#pragma GCC unroll 8
    for (Index k = 0; k < room; k += kLanes<T>) store(found + k, sums<T>(sum + k));
    for (int n = 0; n < N; ++n)
        for (Index m = 0; m < valid; ++m) {
            T& to = out[n * ldo + m];
            to = adds ? to + found[n * M + m] : found[n * M + m];
        }
}

// out_n[i] = (adds: its own +) w_i . x_n for rows [0, rows) of w (rows, columns) and vectors [0, count).
// Each sum is made in the same order, wherever its row and its vector stand.
template <class T>
void multiply(const T* w, Index columns, Index rows, const T* x, Index ldx, Index count, T* out, Index ldo,
              bool adds) {
    constexpr int single = kLanes<T> < 8 ? 8 : int(kLanes<T>);
    if (count == 1) {
        for (Index i = 0; i < rows; i += single)
            multiply_block<T, single, 1>(w + i * columns, columns, rows - i < single ? rows - i : single, x, ldx,
                                         out + i, ldo, adds);
        return;
    }
    for (Index i = 0; i < rows; i += kRows) {
        const Index valid = rows - i < kRows ? rows - i : kRows;
        const T* block = w + i * columns;
        Index n = 0;
        for (; n + kDots <= count; n += kDots)
            multiply_block<T, kRows, kDots>(block, columns, valid, x + n * ldx, ldx, out + n * ldo + i, ldo,
                                            adds);
        for (; n + 2 <= count; n += 2)
            multiply_block<T, kRows, 2>(block, columns, valid, x + n * ldx, ldx, out + n * ldo + i, ldo, adds);
        if (n < count)
            multiply_block<T, kRows, 1>(block, columns, valid, x + n * ldx, ldx, out + n * ldo + i, ldo, adds);
    }
}

// out_n[j] = sum_i w[i][j] x_n[i] for columns [first, last): back through w (rows, columns).
template <class T>
void carry_back(const T* w, Index columns, Index rows, const T* x, Index ldx, Index count, Index first, Index last,
                T* out, Index ldo) {
    for (Index n = 0; n < count; ++n) {
        const T* by = x + n * ldx;
        T* to = out + n * ldo;
        const auto some = [&](Index j, auto which) {
            Vec<T> sum = {};
            for (Index i = 0; i < rows; ++i) sum = fma(load(w + i * columns + j, which), broadcast(by[i]), sum);
            store(to + j, sum, which);
        };
        each_vector<T>(last - first, [&](Index j, auto which) { some(first + j, which); });
    }
}

}  // namespace kernels
