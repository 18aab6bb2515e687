// Weight gradients: sums over time and batch of node signals (x) what entered the weight.
//
// Hidden units go in groups of one register tile's width; the node signals of each gate are a *panel*. For a
// stretch of rows the panels are filled (from given node signals, or straight from the state signal: they are
// then never stored) and multiplied with everything that entered, while all is in cache. Threads share the sums,
// not the rows: each sum runs over the rows in the same order on any number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "backward.h"
#include "layer.h"

namespace kernels {

// The gradients of a layer's weights; the biases' may be null.
template <class T>
struct Gradients {
    T *ih, *hh, *b_ih, *b_hh;
};

// Which gate each panel holds. The GRU's candidate comes first and last (with reset after: as it meets W_n,
// behind the reset gate), so that what enters a weight always multiplies neighbouring panels.
struct Panels {
    Index count;
    Index gate[4];
};
inline Panels panels_of(Cell cell) {
    switch (cell) {
        case Cell::rnn:
            return {1, {0}};
        case Cell::lstm:
            return {4, {0, 1, 2, 3}};
        case Cell::gru:
            return {4, {2, 0, 1, 2}};
        case Cell::gru_reset_before:
            return {3, {2, 0, 1}};
    }
    return {0, {}};
}

// A few neighbouring columns of what entered a weight, the panels they multiply, and where the sums go:
// to[node * to_stride + column], and of a column beyond to_stride to the bias.
template <class T>
struct Strip {
    const T* at;  // of the first row, the others `stride` apart; null for the inputs: from their block
    Index stride, first_column, columns;
    Index first_row;  // the rows before it hold zeros
    Index first_panel, end_panel;
    T* to;
    Index to_stride;
};

// The inputs enter with one more column, of ones, which makes the bias's gradient.
template <class T>
std::vector<Strip<T>> strips_of(const Layer<T>& layer, History<T> past, Gradients<T> out) {
    static const T one = 1;
    std::vector<Strip<T>> strips;
    const auto enter = [&](const T* at, Index stride, Index columns, Index first_row, Index first, Index end,
                           T* to, Index to_stride) {
        for (Index j = 0, height; j < columns; j += height) {
            height = tile_height(columns - j);
            strips.push_back({at, stride, j, height, first_row, first, end, to, to_stride});
        }
    };
    const Index size = layer.hidden, all = gates_of(layer.cell), inputs = layer.inputs;
    const Index moved = past.from_zero ? layer.batch : 0;  // the first row of a state that need not be zero
    enter(nullptr, inputs + 1, inputs + (out.b_ih != nullptr), 0, 0, all, out.ih, inputs);
    if (!is_gru(layer.cell)) {
        enter(past.h, size, size, moved, 0, all, out.hh, size);
    } else if (layer.cell == Cell::gru) {
        enter(past.h, size, size, moved, 1, 4, out.hh, size);
        if (out.b_hh) enter(&one, 0, 1, 0, 3, 4, out.b_hh, 1);
    } else {
        enter(past.h, size, size, moved, 1, 3, out.hh, size);
        enter(past.auxiliary, size, size, moved, 0, 1, out.hh, size);
    }
    return strips;
}

// As many sums as stay near the core: the groups of units they belong to go through the history together.
template <class T>
constexpr Index cached_sums = 600 * 1024 / sizeof(T);

// fill(row, n, first, count, panels, ld): node signals of n rows from `row` on, for hidden units
// [first, first + count), into the panels, whose rows are ld apart.
template <class T, class Fill>
void sum_outer_products(const Layer<T>& layer, History<T> past, const T* inputs, Gradients<T> out,
                        const Fill& fill) {
    constexpr Index depth = 128, width = Packed<T>::width, sum_size = kTileRows * width;
    const Panels panels = panels_of(layer.cell);
    const std::vector<Strip<T>> strips = strips_of(layer, past, out);
    const Index size = layer.hidden, rows = layer.steps * layer.batch, count = Index(strips.size());
    const Index inputs_size = layer.inputs;
    const Index tasks = (size + width - 1) / width * count;  // groups by strips
    const double work = double(rows) * double(layer.nodes()) * double(layer.inputs + size);
    const Index parts = parts_of(tasks, layer.threads, work);
    std::vector<Index> before{0};  // products per row of all strips before each: parts get equal shares
    for (const Strip<T>& s : strips)
        before.push_back(before.back() + s.columns * (s.end_panel - s.first_panel));
    const auto start = [&](Index part) {
        const Index group = before.back(), all = tasks / count * group * part / parts;
        return all / group * count +
               (std::lower_bound(before.begin(), before.end(), all % group) - before.begin());
    };
    const Index at_once = std::max<Index>(1, cached_sums<T> / (panels.count * sum_size * count));  // groups
    parallel(parts, [&](Index part) {
        const Index ld = padded<T>(std::min(size, at_once * width)), end = start(part + 1);
        const Buffer<T> filled = zeros<T>(panels.count * depth * ld);
        const Buffer<T> sums(std::min(tasks, at_once * count) * panels.count * sum_size);
        const Buffer<T> entered(depth * (inputs_size + 1));
        T* panel[4];
        for (Index p = 0; p < 4; ++p) panel[p] = filled.get() + p % panels.count * depth * ld;
        for (Index task = start(part), next; task < end; task = next) {
            next = std::min(end, (task / count + at_once) * count);
            const Index first = task / count * width;
            const Index units = std::min(size, ((next - 1) / count + 1) * width) - first;
            // body(strip, panel, the group's first unit after `first`, its units, the sum)
            const auto each_sum = [&](const auto& body) {
                T* sum = sums.get();
                for (Index from = task, to; from < next; from = to) {
                    to = std::min(next, (from / count + 1) * count);
                    const Index group = from / count, unit = group * width - first;
                    const Index wide = std::min(width, units - unit);
                    for (Index p = 0; p < panels.count; ++p)  // a panel stays in the first cache
                        for (Index s = from; s < to; ++s, sum += sum_size) {
                            const Strip<T>& strip = strips[s - group * count];
                            if (strip.first_panel <= p && p < strip.end_panel) body(strip, p, unit, wide, sum);
                        }
                }
            };
            std::memset(sums.get(), 0, std::size_t((next - task) * panels.count * sum_size) * sizeof(T));
            for (Index row = 0; row < rows; row += depth) {
                const Index deep = std::min(depth, rows - row);
                for (Index k = 0; k < deep; ++k) {
                    T* to = entered.get() + k * (inputs_size + 1);
                    std::memcpy(to, inputs + (row + k) * inputs_size, std::size_t(inputs_size) * sizeof(T));
                    to[inputs_size] = 1;
                }
                // Lanes beyond the last unit hold what they hold: their sums are never read.
                fill(row, deep, first, units, panel, ld);
                each_sum([&](const Strip<T>& strip, Index p, Index unit, Index wide, T* sum) {
                    const Index skip = std::clamp<Index>(strip.first_row - row, 0, deep), ldc = padded<T>(wide);
                    if (skip == deep) return;
                    const T* at = strip.at ? strip.at + (row + skip) * strip.stride : entered.get();
                    tile_of<T>(strip.columns, ldc / kLanes<T>)(
                        panel[p] + skip * ld + unit, ld,
                        {at + strip.first_column, 1, strip.stride, deep - skip}, {}, sum, ldc, sum, ldc);
                });
            }
            each_sum([&](const Strip<T>& strip, Index p, Index unit, Index wide, const T* sum) {
                const Index node = panels.gate[p] * size + first + unit, ldc = padded<T>(wide);
                const Index own = std::min(strip.columns, strip.to_stride - strip.first_column);
                T* to = strip.to + node * strip.to_stride + strip.first_column;
                for (Index j = 0; j < wide; ++j)
                    for (Index r = 0; r < own; ++r) to[j * strip.to_stride + r] = sum[r * ldc + j];
                if (own < strip.columns) std::memcpy(out.b_ih + node, sum + own * ldc, std::size_t(wide) * sizeof(T));
            });
        }
    });
    if (out.b_hh) {  // the sums of the other bias, where it is simply added to the same nodes
        const Index same = layer.cell == Cell::gru ? 2 * size : layer.nodes();
        std::memcpy(out.b_hh, out.b_ih, std::size_t(same) * sizeof(T));
    }
}

// From node signals delta (t, b, g).
template <class T>
void gradients(const Layer<T>& layer, History<T> past, const T* inputs, const T* delta,
               Gradients<T> out) {
    const Panels panels = panels_of(layer.cell);
    const Index size = layer.hidden, nodes = layer.nodes();
    const auto fill = [&](Index row, Index n, Index first, Index count, T* const* panel, Index ld) {
        for (Index p = 0; p < panels.count; ++p) {
            const T* from = delta + row * nodes + panels.gate[p] * size + first;
            const T* reset = p == 3 && layer.cell == Cell::gru ? past.gates + row * nodes + first : nullptr;
            for (Index k = 0; k < n; ++k)
                each_vector<T>(count, [&](Index j, auto part) {
                    const Vec<T> signal = load(from + k * nodes + j, part);
                    store(panel[p] + k * ld + j,
                          reset ? signal * load(reset + k * nodes + j, part) : signal, part);
                });
        }
    };
    sum_outer_products(layer, past, inputs, out, fill);
}

// Straight from the state signal; not for the GRU with reset before, whose units are not independent.
template <class T>
void credited_gradients(const Layer<T>& layer, History<T> past, const T* inputs, StateSignal<T> signal,
                        Gradients<T> out) {
    const Panels panels = panels_of(layer.cell);
    const Credit<T> credit(layer, past);
    const Index size = layer.hidden, batch = layer.batch;
    const auto fill = [&](Index row, Index n, Index first, Index count, T* const* panel, Index ld) {
        Index t = row / batch, b = row % batch;
        for (Index k = 0; k < n; ++k) {
            if (signal.lengths && t >= signal.lengths[b]) {
                for (Index p = 0; p < panels.count; ++p)
                    std::memset(panel[p] + k * ld, 0, std::size_t(ld) * sizeof(T));
            } else {
                NodeSignals<T> to{{}, panel[3] + k * ld};
                const Index gates = gates_of(layer.cell);
                for (Index p = 0; p < gates; ++p) to.gate[panels.gate[p]] = panel[p] + k * ld;
                credit.row(row + k, first, count,
                           signal.at + t * signal.step_stride + b * size + first, nullptr, to);
            }
            if (++b == batch) b = 0, ++t;
        }
    };
    sum_outer_products(layer, past, inputs, out, fill);
}

}  // namespace kernels
