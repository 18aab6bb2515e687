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

    // Rows [first, first + count) of panels [p0, p1), so that threads can share the work. Element
    // (first + row, column) of the matrix is source[row * row_stride + column * column_stride].
    void pack(Index first, Index count, const T* source, Index row_stride, Index column_stride,
              Index p0, Index p1) {
        constexpr Index block = 64;  // rows at a time: source and panel both stay in the first cache
        for (Index p = p0; p < p1; ++p) {
            const Index columns = columns_of(p), stride = padded<T>(columns);
            const T* from = source + p * width * column_stride;
            T* out = panel(p) + first * stride;
            for (Index k0 = 0; k0 < count; k0 += block) {
                const Index k1 = k0 + block < count ? k0 + block : count;
                if (column_stride == 1) {
                    for (Index k = k0; k < k1; ++k)
                        for (Index j = 0; j < columns; ++j)
                            out[k * stride + j] = from[k * row_stride + j];
                } else {
                    for (Index j = 0; j < columns; ++j)
                        for (Index k = k0; k < k1; ++k)
                            out[k * stride + j] = from[k * row_stride + j * column_stride];
                }
                for (Index k = k0; k < k1; ++k)
                    for (Index j = columns; j < stride; ++j) out[k * stride + j] = 0;
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

// Some columns of the left factor: element (row, column) is at[row * stride + column * step].
template <class T>
struct Operand {
    const T* at;
    Index stride, step, columns;
};

// sum += a w for one register tile of R rows by V vectors; w, its rows ldw apart, moves on past those it used.
template <class T, int R, int V>
inline __attribute__((always_inline)) void accumulate(Vec<T> (&sum)[R][V], const Operand<T>& a,
                                                      const T*& w, Index ldw) {
    const T* x = a.at;
    for (Index k = a.columns; k > 0; --k, w += ldw, x += a.step) {
        Vec<T> weight[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) weight[v] = load(w + v * kLanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Vec<T> value = broadcast(x[r * a.stride]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[r][v] = fma(value, weight[v], sum[r][v]);
        }
    }
}

// c = start + [a, b] w. The sum begins at zero and `start` joins last: the registers are then free of
// loads before the loop.
template <class T, int R, int V>
void tile(const T* w, Index ldw, const Operand<T>& a, const Operand<T>& b, const T* start, Index lds, T* c,
          Index ldc) {
    Vec<T> sum[R][V] = {};
    accumulate<T, R, V>(sum, a, w, ldw);
    accumulate<T, R, V>(sum, b, w, ldw);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            store(c + r * ldc + v * kLanes<T>,
                  load(start + r * lds + v * kLanes<T>) + sum[r][v]);
}

template <class T>
using Tile = void (*)(const T*, Index, const Operand<T>&, const Operand<T>&, const T*, Index, T*, Index);

// The tile for `rows` rows and `vectors` vectors.
template <class T, int R = kTileRows, int V = kTileVectors>
inline Tile<T> tile_of(Index rows, Index vectors) {
    if constexpr (R > 1)
        if (rows < R) return tile_of<T, R - 1, V>(rows, vectors);
    if constexpr (V > 1)
        if (vectors < V) return tile_of<T, R, V - 1>(rows, vectors);
    return tile<T, R, V>;
}

// How many of the rows that are left go into the next tile: the last two are of nearly equal height.
inline Index tile_height(Index rest) {
    return rest >= 2 * kTileRows ? kTileRows : rest > kTileRows ? (rest + 1) / 2 : rest;
}

// c (rows, n) = start + [a, b] w[first_k:, :]. Rows of `start` are lds apart (0: one row for all; it may be
// c itself). c and start have padded<T>(w.n) readable columns. Each element is summed in the order of k,
// whatever the number of rows. All rows pass over a panel before the next one: it stays in the second cache.
template <class T>
inline void multiply(const Packed<T>& w, Index first_k, Index rows, const Operand<T>& a,
                     const Operand<T>& b, const T* start, Index lds, T* c, Index ldc) {
    for (Index p = 0; p < w.panels(); ++p) {
        const Index vectors = padded<T>(w.columns_of(p)) / kLanes<T>;
        const Index column = p * Packed<T>::width;
        const T* panel = w.panel(p) + first_k * vectors * kLanes<T>;
        Operand<T> left = a, right = b;
        for (Index r = 0; r < rows;) {
            const Index height = tile_height(rows - r);
            tile_of<T>(height, vectors)(panel, vectors * kLanes<T>, left, right, start + column + r * lds,
                                        lds, c + column + r * ldc, ldc);
            left.at += height * left.stride;
            right.at += height * right.stride;
            r += height;
        }
    }
}

}  // namespace kernels
