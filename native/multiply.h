// C = start + A W over a block of rows, with W packed once and streamed through registers.
#pragma once

#include <cstdlib>
#include <new>
#include <utility>

#include "simd.h"

namespace kernels {

// Uninitialised memory on a cache line boundary, freed at the end of the scope.
template <class T>
class Buffer {
  public:
    explicit Buffer(Index n)
        : data_(static_cast<T*>(::operator new(std::size_t(n ? n : 1) * sizeof(T), line))) {}
    ~Buffer() {
        if (data_) ::operator delete(data_, line);
    }
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    T* get() const { return data_; }

  private:
    static constexpr std::align_val_t line{64};
    T* data_;
};

// A matrix (k, n) in panels of `width` columns, each panel k-major and contiguous:
// the inner loop reads it as one stream. The last panel is rounded up with zeros to whole vectors.
template <class T>
class Packed {
  public:
    static constexpr Index width = kTileVectors * kLanes<T>;

    Packed(Index k, Index n) : k(k), n(n), data_(k * padded<T>(n)) {}

    // Element (row, column) of the matrix is source[row * row_stride + column * column_stride].
    // Panels [first, last) only, so that threads can share the work.
    void pack(const T* source, Index row_stride, Index column_stride, Index first, Index last) {
        constexpr Index tile = 64;  // rows at a time: source and panel both stay in the first cache
        for (Index p = first; p < last; ++p) {
            T* out = panel(p);
            const Index columns = columns_of(p), stride = padded<T>(columns);
            const T* from = source + p * width * column_stride;
            for (Index k0 = 0; k0 < k; k0 += tile) {
                const Index k1 = k0 + tile < k ? k0 + tile : k;
                if (column_stride == 1) {
                    for (Index row = k0; row < k1; ++row)
                        for (Index j = 0; j < columns; ++j)
                            out[row * stride + j] = from[row * row_stride + j];
                } else {
                    for (Index j = 0; j < columns; ++j)
                        for (Index row = k0; row < k1; ++row)
                            out[row * stride + j] = from[row * row_stride + j * column_stride];
                }
                for (Index row = k0; row < k1; ++row)
                    for (Index j = columns; j < stride; ++j) out[row * stride + j] = 0;
            }
        }
    }

    Index panels() const { return (n + width - 1) / width; }
    Index columns_of(Index p) const { return n - p * width < width ? n - p * width : width; }
    T* panel(Index p) const { return data_.get() + p * width * k; }

    const Index k, n;

  private:
    Buffer<T> data_;
};

// One register tile: R rows by V vectors.
template <class T, int R, int V>
inline void tile(Index k, const T* w, const T* a, Index lda, const T* start, Index lds, T* c,
                 Index ldc) {
    Vec<T> sum[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = load(start + r * lds + v * kLanes<T>);
    for (Index i = 0; i < k; ++i, w += V * kLanes<T>, ++a) {
        Vec<T> weight[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) weight[v] = load(w + v * kLanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Vec<T> x = broadcast(a[r * lda]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[r][v] = fma(x, weight[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes<T>, sum[r][v]);
}

template <class T, int V, int R = kTileRows>
inline void tile_of(Index rows, Index k, const T* w, const T* a, Index lda, const T* start,
                    Index lds, T* c, Index ldc) {
    if constexpr (R > 0) {
        if (rows == R)
            tile<T, R, V>(k, w, a, lda, start, lds, c, ldc);
        else
            tile_of<T, V, R - 1>(rows, k, w, a, lda, start, lds, c, ldc);
    }
}

template <class T, int V = kTileVectors>
inline void tiles(Index vectors, Index rows, Index k, const T* w, const T* a, Index lda,
                  const T* start, Index lds, T* c, Index ldc) {
    if constexpr (V > 0) {
        if (vectors != V)
            return tiles<T, V - 1>(vectors, rows, k, w, a, lda, start, lds, c, ldc);
        const Index blocks = (rows + kTileRows - 1) / kTileRows;
        for (Index block = 0; block < blocks; ++block) {  // blocks of nearly equal height
            const Index r0 = rows * block / blocks, r1 = rows * (block + 1) / blocks;
            tile_of<T, V>(r1 - r0, k, w, a + r0 * lda, lda, start + r0 * lds, lds, c + r0 * ldc,
                          ldc);
        }
    }
}

// c (rows, n) = start + a (rows, k) @ w. Rows of `start` are lds apart (0: one row for all; it may be c
// itself). c and start have padded<T>(w.n) readable columns. Sums run in the order of k, whatever the rows.
template <class T>
inline void multiply(const Packed<T>& w, Index rows, const T* a, Index lda, const T* start,
                     Index lds, T* c, Index ldc) {
    // A stretch of a panel that stays in the first cache while all rows pass over it.
    constexpr Index depth = 96;
    for (Index p = 0; p < w.panels(); ++p) {
        const Index vectors = padded<T>(w.columns_of(p)) / kLanes<T>;
        const Index column = p * Packed<T>::width;
        const T* panel = w.panel(p);
        const T* from = start + column;
        Index from_stride = lds;
        for (Index i = 0; i == 0 || i < w.k; i += depth) {
            const Index k = w.k - i < depth ? w.k - i : depth;
            tiles<T>(vectors, rows, k, panel + i * vectors * kLanes<T>, a + i, lda, from,
                     from_stride, c + column, ldc);
            from = c + column;
            from_stride = ldc;
        }
    }
}

}  // namespace kernels
