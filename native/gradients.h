// Node signals -> weight gradients: sums over time and batch of delta (x) what entered the weight.
#pragma once

#include <vector>

#include "layer.h"

namespace kernels {

// `columns` numbers that entered a weight in each row (rows `stride` apart), and where their sums with
// the node signals go: to[node * to_stride + column].
template <class T>
struct Entered {
    const T* at;
    Index stride, columns;
    T* to;
    Index to_stride;
};

// to[node, column] = sum over rows of post[row, node] * gate[row, node] * entered[row, column] (gate null: 1).
// Lanes run over nodes. Threads share the columns, so each sum runs over the rows in the same order.
template <class T>
void outer_sums(Index threads, Index rows, Index nodes, const T* post, Index post_stride,
                const T* gate, Index gate_stride, const std::vector<Entered<T>>& entered) {
    struct Strip {  // neighbouring columns that make one register tile
        const Entered<T>& from;
        Index first, count;
    };
    std::vector<Strip> strips;
    Index columns = 0;
    for (const Entered<T>& from : entered) {
        columns += from.columns;
        for (Index j = 0; j < from.columns; j += kTileRows)
            strips.push_back({from, j, from.columns - j < kTileRows ? from.columns - j : kTileRows});
    }
    constexpr Index depth = 96, width = Packed<T>::width;
    const Index count = Index(strips.size());
    const Index parts = parts_of(count, threads, double(rows) * double(nodes) * double(columns));
    parallel(parts, [&](Index part) {
        const Index s0 = count * part / parts, s1 = count * (part + 1) / parts;
        const Buffer<T> packed(depth * width), sums((s1 - s0) * kTileRows * width);
        for (Index node = 0; node < nodes; node += width) {
            const Index wide = nodes - node < width ? nodes - node : width;
            const Index ld = padded<T>(wide), vectors = ld / kLanes<T>;
            std::memset(sums.get(), 0, std::size_t((s1 - s0) * kTileRows * ld) * sizeof(T));
            for (Index row = 0; row < rows; row += depth) {
                const Index deep = rows - row < depth ? rows - row : depth;
                for (Index k = 0; k < deep; ++k) {
                    const T* from = post + (row + k) * post_stride + node;
                    const T* scale = gate ? gate + (row + k) * gate_stride + node : nullptr;
                    each_vector<T>(wide, [&](Index j, auto part) {
                        const Vec<T> delta = load(from + j, part);
                        store(packed.get() + k * ld + j,  // zeros beyond the row
                              scale ? delta * load(scale + j, part) : delta);
                    });
                }
                for (Index s = s0; s < s1; ++s) {
                    const Strip& strip = strips[std::size_t(s)];
                    const Operand<T> a{strip.from.at + row * strip.from.stride + strip.first, 1,
                                       strip.from.stride, deep};
                    T* sum = sums.get() + (s - s0) * kTileRows * ld;
                    tile_of<T>(strip.count, vectors)(packed.get(), a, {}, sum, ld, sum, ld);
                }
            }
            for (Index s = s0; s < s1; ++s) {
                const Strip& strip = strips[std::size_t(s)];
                const T* sum = sums.get() + (s - s0) * kTileRows * ld;
                for (Index j = 0; j < wide; ++j)
                    for (Index r = 0; r < strip.count; ++r)
                        strip.from.to[(node + j) * strip.from.to_stride + strip.first + r] =
                            sum[r * ld + j];
            }
        }
    });
}

// The gradients of a layer's weights; the biases' may be null.
template <class T>
struct Gradients {
    T *ih, *hh, *b_ih, *b_hh;
};

template <class T>
void gradients(const Layer<T>& layer, History<T> past, const T* inputs, const T* delta,
                      Gradients<T> out) {
    const Index size = layer.hidden, nodes = layer.nodes(), features = layer.inputs;
    const Index rows = layer.steps * layer.batch;
    static const T one = 1;
    // Nodes [first, first + n): what came from the input, and what came from the state.
    const auto input = [&](Index first) {
        return Entered<T>{inputs, features, features, out.ih + first * features, features};
    };
    const auto state = [&](Index first, const T* entered) {
        return Entered<T>{entered, size, size, out.hh + first * size, size};
    };
    const auto bias = [&](T* to, Index first) { return Entered<T>{&one, 0, 1, to + first, 1}; };
    const auto sums = [&](Index first, Index n, const T* gate, std::vector<Entered<T>> entered) {
        outer_sums<T>(layer.threads, rows, n, delta + first, nodes, gate, nodes, entered);
    };
    const bool biased = out.b_ih != nullptr;
    const Index shared = is_gru(layer.cell) ? 2 * size : nodes;  // nodes both weights feed directly

    std::vector<Entered<T>> all{input(0), state(0, past.h)};
    if (biased) all.push_back(bias(out.b_ih, 0));
    sums(0, shared, nullptr, all);
    if (biased) std::memcpy(out.b_hh, out.b_ih, std::size_t(shared) * sizeof(T));
    if (!is_gru(layer.cell)) return;

    std::vector<Entered<T>> candidate{input(shared)};
    if (biased) candidate.push_back(bias(out.b_ih, shared));
    if (layer.cell == Cell::gru_reset_before) {
        candidate.push_back(state(shared, past.auxiliary));
        sums(shared, size, nullptr, candidate);
        if (biased)
            std::memcpy(out.b_hh + shared, out.b_ih + shared, std::size_t(size) * sizeof(T));
    } else {  // the reset gate stands between W_n h + b_hn and the node
        sums(shared, size, nullptr, candidate);
        std::vector<Entered<T>> behind{state(shared, past.h)};
        if (biased) behind.push_back(bias(out.b_hh, shared));
        sums(shared, size, past.gates, behind);
    }
}

}  // namespace kernels
