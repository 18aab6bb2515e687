// Signals back through time by elementwise factors: what a trace keeps of each unit's own past.
#pragma once

#include "parallel.h"

namespace kernels {

// What is kept of d(new state)/d(old state), (t, w) each, w = batch * hidden; null is zero.
template <class T>
struct Kept {
    const T *h_by_h, *h_by_c, *c_by_h, *c_by_c;
};

// h, c (t, w): h holds the signals that enter, c (or null) zeros; both get what comes from later besides.
template <class T>
void carry_back(Index threads, Index steps, Index width, Kept<T> kept, T* h, T* c) {
    constexpr Index block = 4096 / sizeof(T);  // of the signals of a step: stays in cache from t to t - 1
    const Index blocks = (width + block - 1) / block;
    const Index parts = parts_of(blocks, threads, double(steps) * double(width) * (c ? 4.0 : 1.0));
    const auto add = [](const T* factor, const T* later, T* earlier, Index n) {
        if (!factor) return;
        each_vector<T>(n, [&](Index j, auto part) {
            store(earlier + j, fma(load(factor + j, part), load(later + j, part), load(earlier + j, part)),
                  part);
        });
    };
    parallel(parts, [&](Index part) {
        const Index last = blocks * (part + 1) / parts * block;
        for (Index i = blocks * part / parts * block; i < last && i < width; i += block) {
            const Index n = width - i < block ? width - i : block;
            for (Index t = steps; t-- > 1;) {
                const Index now = t * width + i, before = now - width;
                const auto at = [now](const T* factor) { return factor ? factor + now : nullptr; };
                add(at(kept.h_by_h), h + now, h + before, n);
                add(at(kept.h_by_c), h + now, c + before, n);
                add(at(kept.c_by_h), c + now, h + before, n);
                add(at(kept.c_by_c), c + now, c + before, n);
            }
        }
    });
}

}  // namespace kernels
