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

    // Rows [first, first + count) of panels [p0, p1), so that threads can share the work: element
    // (first + row, column) of the matrix is source[row * ld + column].
    void pack(Index first, Index count, const T* source, Index ld, Index p0, Index p1) {
        each_panel(first, count, p0, p1, [&](T* out, Index column, Index columns, Index stride) {
            for (Index k = 0; k < count; ++k)
                std::memcpy(out + k * stride, source + k * ld + column, std::size_t(columns) * sizeof(T));
        });
    }

    // The same of a matrix that lies transposed: element (first + row, column) is source[column * ld + row].
    void pack_transposed(Index first, Index count, const T* source, Index ld, Index p0, Index p1) {
        constexpr Index lanes = kLanes<T>;
        each_panel(first, count, p0, p1, [&](T* out, Index column, Index columns, Index stride) {
            const T* from = source + column * ld;
            const Index whole = columns / lanes * lanes, deep = count / lanes * lanes;
            for (Index k = 0; k < deep; k += lanes)
                for (Index j = 0; j < whole; j += lanes) {
                    Vec<T> square[lanes];
                    for (Index i = 0; i < lanes; ++i) square[i] = load(from + (j + i) * ld + k);
                    transpose<T>(square);
                    for (Index i = 0; i < lanes; ++i) store(out + (k + i) * stride + j, square[i]);
                }
            for (Index j = 0; j < columns; ++j)
                for (Index k = j < whole ? deep : 0; k < count; ++k) out[k * stride + j] = from[j * ld + k];
        });
    }

    Index panels() const { return (n + width - 1) / width; }
    Index columns_of(Index p) const { return n - p * width < width ? n - p * width : width; }
    T* panel(Index p) const { return data_.get() + p * width * k; }

    const Index k, n;

  private:
    // body(where row `first` of a panel begins, its first column, its columns, its rows' distance); the last
    // panel's columns beyond the matrix are zero.
    template <class Body>
    void each_panel(Index first, Index count, Index p0, Index p1, const Body& body) {
        for (Index p = p0; p < p1; ++p) {
            const Index columns = columns_of(p), stride = padded<T>(columns);
            T* out = panel(p) + first * stride;
            if (columns < stride)
                for (Index k = 0; k < count; ++k)
                    std::memset(out + k * stride + columns, 0, std::size_t(stride - columns) * sizeof(T));
            body(out, p * width, columns, stride);
        }
    }

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
