// A step forward: noise, states, decorrelated states and outputs, of the clean pass and of the noisy one.
#pragma once

#include "online.h"

namespace kernels {

template <class T>
inline void Online<T>::enter_inputs(Index t) {
    for (Index r = 0; r < rows; ++r)
        copy(c.x + (t * c.batch + r % c.batch) * c.inputs, c.inputs,
             entering_at(t).row(r) + c.hidden);
}

// The noise of step t at the nodes, some of it: the parts share its groups.
template <class T>
inline void Online<T>::draw(Index part, Index t) {
    if (!noisy || c.kind == Learning::wp) return;
    const Index count = draws * c.batch * c.hidden,
                groups = (count + kNoiseGroup - 1) / kNoiseGroup;
    const Index first = part * groups / kParts * kNoiseGroup,
                end = (part + 1) * groups / kParts * kNoiseGroup;
    draw_some(key_of(t, 0), first, end < count ? end : count, noise[t % 2]);
    if (part == 0) draw_some(key_of(t, 1), 0, draws * c.batch * c.outputs, readout_noise[t % 2]);
}

template <class T>
inline void Online<T>::draw_some(Key key, Index first, Index last, const Rows<T>& to) {
    if (first >= last) return;
    T* out = to.begin() + first;
    fill_noise<T>(key, first, last, last - first, out, 0);
    if (c.orthogonal)  // its sign alone
        for (Index i = 0; i < last - first; ++i) out[i] = std::copysign(T(1), out[i]);
}

// Pre-activations and states of the part's units, after the weights have learned from step t - 1.
template <class T>
inline void Online<T>::move(Index part, Index t, Mine& mine) {
    const Rows<T>& pre = entering_at(t);
    if (c.kind == Learning::wp) draw_small(part, t, mine);
    if (t && c.decorrelation)  // which U D waits for; without D others may still read U
        each_block(part, u, [&](Index first, Index) { learn_readout(first, t, mine); });
    each_block(part, m, [&](Index first, Index valid) {
        if (t) learn_block(first, t, mine);
        T* out = a.begin() + first;
        if (c.kind == Learning::wp) {
            draw_block(part, first, valid, t, mine);
            shaken_dots<T>(m.row(first), m_noise.row(first), c.sigma, m.stride,
                           {pre.begin(), m.stride, rows}, valid, out, units);
        } else {
            dots<T>(m.row(first), m.stride, {pre.begin(), m.stride, rows}, valid, out, units);
        }
    });
    for (Index b = 0; b < c.batch; ++b) activate(part, t, b);
}

template <class T>
inline void Online<T>::activate(Index part, Index t, Index b) {
    const bool traces = c.kind == Learning::bp1 || c.kind == Learning::rflo;
    const T keep = 1 - c.gain;
    if (noisy && !probing) shake(part, t, b);
    each_own(part, [&](Index j, auto which) {
        const Vec<T> active = tanh<T>(load(a.row(b) + j, which)),
                     stays = load(h.row(b) + j, which) * keep;
        if (probing) store(kept.row(b) + j, stays, which);
        publish(t, b, j, which, fma(active, broadcast(c.gain), stays));
        if (traces) store(slope.row(b) + j, (T(1) - active * active) * c.gain, which);
    });
}

// The noisy pass of sequence b, from its own state.
template <class T>
inline void Online<T>::shake(Index part, Index t, Index b) {
    const bool shakes = c.kind != Learning::wp;
    const Index r = c.batch + b;
    const T *xi = noise[t % 2].begin() + b * c.hidden, keep = 1 - c.gain;
    Vec<T> squares = {};
    each_own(part, [&](Index j, auto which) {
        Vec<T> other = load(a.row(r) + j, which);
        if (shakes) other = fma(load(xi + j, which), broadcast(c.sigma), other);
        publish(t, r, j, which,
                fma(load(h.row(r) + j, which), broadcast(keep), tanh<T>(other) * c.gain));
        if (!measures) return;
        const Vec<T> moved = other - load(a.row(b) + j, which);
        store(delta.row(b) + j, moved, which);
        squares = fma(moved, moved, squares);
    });
    norms[t % 2].row(part)[b] = total(squares);
}

template <class T>
inline T Online<T>::total(Vec<T> lanes) {
    T sum = 0;
    for (Index lane = 0; lane < kLanes<T>; ++lane) sum += lanes[lane];
    return sum;
}

template <class T>
template <class Which>
inline void Online<T>::publish(Index t, Index r, Index j, Which which, Vec<T> state) {
    store(h.row(r) + j, state, which);
    if (c.decorrelation) return;
    store(features_at(t).row(r) + j, state, which);
    store(entering_at(t + 1).row(r) + j, state, which);
}

// h* of the part's units, after D has learned from step t - 1; and the part's share of h*^T D and of U D.
template <class T>
inline void Online<T>::decorrelate(Index part, Index t) {
    Rows<T>& f = features_at(t);
    Index summed = first_unit(part);
    clear(carried_parts, part, c.batch);
    if (probing) clear(ud_parts, part, c.outputs);
    each_block(part, d, [&](Index first, Index valid) {
        if (t && !c.preserve) learn_decorrelation(first);
        dots<T>(d.row(first), d.stride, {h.begin(), units, rows}, valid, f.begin() + first,
                f.stride);
        const Index end = first + valid;
        if (end - summed < kSummed && end < first_unit(part + 1)) return;
        sum_rows<T>(d.row(summed), d.stride, end - summed,
                    {f.begin() + summed, f.stride, c.batch}, carried_parts.row(part * c.batch),
                    d.stride);
        if (probing)
            sum_rows<T>(d.row(summed), d.stride, end - summed,
                        {u.begin() + summed, u.stride, c.outputs},
                        ud_parts.row(part * c.outputs), d.stride);
        summed = end;
    });
}

// Outputs, and what else waits for all of h*.
template <class T>
inline void Online<T>::read(Index part, Index t, Mine& mine) {
    const Rows<T>& f = features_at(t);
    if (t + 1 < c.steps) {
        if (part == 0) enter_inputs(t + 1);
        draw(part, t + 1);
    }
    if (c.decorrelation) {
        const Index vectors = d.stride / kLanes<T>, first = part * vectors / kParts * kLanes<T>,
                    last = (part + 1) * vectors / kParts * kLanes<T>;
        sum_parts(carried_parts, c.batch, first, last, carried);
        if (probing) sum_parts(ud_parts, c.outputs, first, last, ud);
        for (Index b = part; b < c.batch; b += kParts)
            for (Index r = 0; r < rows; ++r) gram.row(b)[r] = dot(f.row(b), f.row(r));
    }
    each_block(part, u, [&](Index first, Index valid) {
        if (t && !c.decorrelation) learn_readout(first, t, mine);
        T* out = beta.begin() + first;
        if (c.kind == Learning::wp) {
            draw_readout(first, valid, t);
            shaken_dots<T>(u.row(first), u_noise.row(first), c.sigma, u.stride,
                           {f.begin(), u.stride, rows}, valid, out, nodes);
        } else {
            dots<T>(u.row(first), u.stride, {f.begin(), u.stride, rows}, valid, out, nodes);
        }
    });
}

// Every row of `out` is the sum of the parts' own, over some columns.
template <class T>
inline void Online<T>::sum_parts(const Rows<T>& parts, Index count, Index first, Index last,
                      const Rows<T>& out) {
    for (Index n = 0; n < count; ++n)
        for (Index j = first; j < last; j += kLanes<T>) {
            Vec<T> sum = load(parts.row(n) + j);
            for (Index p = 1; p < kParts; ++p) sum += load(parts.row(p * count + n) + j);
            store(out.row(n) + j, sum);
        }
}

template <class T>
inline T Online<T>::dot(const T* x, const T* y) {  // over the units
    Vec<T> sum = {};
    each_vector<T>(c.hidden, [&](Index j, auto which) {
        sum = fma(load(x + j, which), load(y + j, which), sum);
    });
    return total(sum);
}

template <class T>
inline void Online<T>::enter_decorrelated(Index part, Rows<T>& pre) {
    each_block(part, d, [&](Index first, Index valid) {
        dots<T>(d.row(first), d.stride, {h.begin(), units, rows}, valid, pre.begin() + first,
                pre.stride);
    });
}

// D' h = (1 + eps <h*^2>) h* - eps <h* (h*^T h*)> for every pass that goes on.
template <class T>
inline void Online<T>::enter_corrected(Index part, Index t) {
    const Rows<T>& f = features_at(t);
    for (Index r = 0; r < rows; ++r)
        each_own(part, [&](Index j, auto which) {
            Vec<T> sum = load(f.row(r) + j, which) * load(correlate_scale.begin() + j, which);
            for (Index b = 0; b < c.batch; ++b)
                sum = fma(load(correlate.row(b) + j, which), broadcast(gram.row(b)[r]), sum);
            store(entering_at(t + 1).row(r) + j, sum, which);
        });
}

// The noise of a part's rows of V and its biases, at once: a row alone would waste most of a group.
template <class T>
inline void Online<T>::draw_small(Index part, Index t, Mine& mine) {
    const Index first = first_unit(part), last = first_unit(part + 1);
    T* out = mine.small.begin();
    fill_noise<T>(key_of(t, 0), first * c.inputs, last * c.inputs, c.inputs, out, c.inputs);
    out += (last - first) * c.inputs;
    for (Index k = 0; k < biases; ++k, out += last - first)
        fill_noise<T>(key_of(t, std::uint32_t(2 + k)), first, last, last - first, out, 0);
}

template <class T>
inline void Online<T>::draw_block(Index part, Index first, Index valid, Index t, const Mine& mine) {
    const Index start = first_unit(part), own = first_unit(part + 1) - start;
    const T* small = mine.small.begin();
    fill_noise<T>(key_of(t, 1), first * c.hidden, (first + valid) * c.hidden, c.hidden,
                  m_noise.row(first), m.stride);
    for (Index i = first - start; i < first - start + valid; ++i) {
        T* rest = m_noise.row(start + i) + c.hidden;
        copy(small + i * c.inputs, c.inputs, rest);
        for (Index k = 0; k < biases; ++k) rest[c.inputs + k] = small[own * (c.inputs + k) + i];
    }
}

template <class T>
inline void Online<T>::draw_readout(Index first, Index valid, Index t) {
    const std::uint32_t place = std::uint32_t(2 + biases);
    fill_noise<T>(key_of(t, place), first * c.hidden, (first + valid) * c.hidden, c.hidden,
                  u_noise.row(first), u.stride);
    if (c.readout_bias)
        fill_noise<T>(key_of(t, place + 1), first, first + valid, 1,
                      u_noise.row(first) + c.hidden, u.stride);
}

}  // namespace kernels
