// What a step's loss says to every node: the error, or what noise did.
#pragma once

#include "online.h"

namespace kernels {

// The part's copies of the sequences, direction by direction and then their mirror images.
template <class T>
inline void Online<T>::probe(Index part, Index t, Mine& mine) {
    clear(earned, part, c.batch);
    clear(readout_earned, part, c.batch);
    const Index all = copies * c.batch, last = (part + 1) * all / kParts;
    for (Index n = part * all / kParts; n < last; ++n)
        probe_copy(part, t, n / c.batch, n % c.batch, mine);
}

// From the clean pre-activations of sequence b to the outputs of a copy, and back to what its nodes earn.
template <class T>
inline void Online<T>::probe_copy(Index part, Index t, Index copy, Index b, Mine& mine) {
    const Index direction = copy % c.directions, drawn = c.orthogonal ? direction / period : direction,
                own = drawn * c.batch + b, n = part * c.batch + b;
    const T *xi = noise[t % 2].begin() + own * c.hidden,
            *nu = readout_noise[t % 2].begin() + own * c.outputs;
    const T* signs = c.orthogonal ? pattern.row(direction % period) : nullptr;
    const T* readout_signs = c.orthogonal ? readout_pattern.row(direction % period) : nullptr;
    const T sigma = copy < c.directions ? c.sigma : -c.sigma;
    const auto noise_at = [&](Index j, auto which) {
        const Vec<T> found = load(xi + j, which);
        return signs ? found * load(signs + j, which) : found;
    };
    const auto readout_noise_at = [&](Index o) {
        return readout_signs ? nu[o] * readout_signs[o] : nu[o];
    };

    Vec<T> squares = {};
    each_vector<T>(c.hidden, [&](Index j, auto which) {
        const Vec<T> moved = noise_at(j, which) * sigma;
        squares = fma(moved, moved, squares);
        const Vec<T> active = tanh<T>(load(a.row(b) + j, which) + moved);
        store(mine.state.begin() + j,
              fma(active, broadcast(c.gain), load(kept.row(b) + j, which)), which);
    });

    const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
    T* made = mine.made.begin();
    T change = 0, read = 0;
    for (Index o = 0; o < c.outputs; ++o) {
        const T* reads = c.decorrelation ? ud.row(o) : u.row(o);
        const T bias = c.readout_bias ? u.row(o)[c.hidden] : T(0);
        made[o] = dot(reads, mine.state.begin()) + bias + sigma * readout_noise_at(o);
        const T moved = made[o] - out[o];
        change += moved * (made[o] + out[o] - 2 * y[o]);
        read += moved * moved;
    }
    const T worth = -c.lr * change / T(c.outputs * c.batch * copies);
    const Credit credit = measures ? measured(worth, total(squares), read)
                                   : Credit{worth / sigma, worth / sigma};
    const T by = measures ? credit.hidden * sigma : credit.hidden;
    each_vector<T>(c.hidden, [&](Index j, auto which) {
        T* to = earned.row(n) + j;
        store(to, fma(noise_at(j, which), broadcast(by), load(to, which)), which);
    });
    for (Index o = 0; o < c.outputs; ++o)
        readout_earned.row(n)[o] += credit.readout * (measures ? made[o] - out[o] : readout_noise_at(o));
}

template <class T>
inline typename Online<T>::Credit Online<T>::measured(T worth, T square, T read) const {
    const auto share = [&](Index count, T size) {
        return size > 0 ? T(count) * worth / size : T(0);
    };
    if (c.layer_norms) return {share(c.hidden, square), share(c.outputs, read)};
    const T both = share(c.hidden + c.outputs, square + read);
    return {both, both};
}

// Losses, credit and the readout's signal: every thread for itself.
template <class T>
inline void Online<T>::judge(Index t, bool tells, Mine& mine) {
    T sum = 0;
    for (Index b = 0; b < c.batch; ++b) {
        const T* out = beta.row(b);
        T* error = noisy ? nullptr : mine.readout.row(b);
        sum += c.loss(t * c.batch + b, out, error);
        for (Index o = 0; error && o < c.outputs; ++o) error[o] *= -c.lr / T(c.batch);
        if (tells) copy(out, c.outputs, c.out + (t * c.batch + b) * c.outputs);
    }
    if (tells) c.losses[t] = sum / T(c.batch);
    if (probing)
        sum_parts(readout_earned, c.batch, 0, nodes, mine.readout);
    else if (noisy)
        reward(t, T(1) / T(c.outputs * c.batch), mine);
}

// What noise did to the loss of each sequence; its credit, and its part of the readout's signal.
template <class T>
inline void Online<T>::reward(Index t, T share, Mine& mine) {
    T *change = mine.change.row(0), *square = mine.change.row(1), *read = mine.change.row(2);
    const T* nu = readout_noise[t % 2].begin();
    const T sigma = c.kind == Learning::wp ? T(0) : c.sigma;
    const auto made = [&](Index b, Index o) {
        return beta.row(c.batch + b)[o] + sigma * nu[b * c.outputs + o];
    };
    T all = 0, all_square = 0, all_read = 0;
    for (Index b = 0; b < c.batch; ++b) {
        change[b] = square[b] = read[b] = 0;
        const T *y = c.y + (t * c.batch + b) * c.outputs, *out = beta.row(b);
        for (Index part = 0; part < kParts; ++part) square[b] += norms[t % 2].row(part)[b];
        for (Index o = 0; o < c.outputs; ++o) {
            const T moved = made(b, o) - out[o];
            change[b] += moved * (made(b, o) + out[o] - 2 * y[o]);
            read[b] += moved * moved;
        }
        all += change[b], all_square += square[b], all_read += read[b];
    }
    mine.weight_credit = -c.lr * all * share / c.sigma;
    for (Index b = 0; b < c.batch && c.kind != Learning::wp; ++b) {
        const T worth = -c.lr * share * (c.batch_reward ? all : change[b]);
        Credit credit{worth / sigma, worth / sigma};
        if (c.kind == Learning::anp) {
            credit = measured(worth, square[b], read[b]);
        } else if (c.kind == Learning::anp_authors_code) {
            const T gain = std::sqrt(T(c.inputs + c.hidden + c.outputs)) / T(c.batch) * worth;
            credit.hidden = all_square > 0 ? gain / all_square : T(0);
            credit.readout = all_read > 0 ? gain / all_read : T(0);
        }
        mine.credit.begin()[b] = credit.hidden;
        for (Index o = 0; o < c.outputs; ++o)
            mine.readout.row(b)[o] =
                credit.readout *
                (measures ? made(b, o) - beta.row(b)[o] : nu[b * c.outputs + o]);
    }
}

// What the part's units are to learn from this step, and what D' lets them send into the next.
template <class T>
inline void Online<T>::signals(Index part, Index t, Mine& mine) {
    for (Index b = 0; b < c.batch && c.kind != Learning::wp; ++b) {
        const T* error = mine.readout.row(b);
        each_own(part, [&](Index j, auto which) {
            T* out = delta.row(b) + j;
            if (probing) {
                Vec<T> sum = {};
                for (Index p = 0; p < kParts; ++p)
                    sum += load(earned.row(p * c.batch + b) + j, which);
                store(out, sum, which);
            } else if (noisy) {
                const T* from =
                    measures ? out : noise[t % 2].begin() + b * c.hidden + j;
                store(out, load(from, which) * mine.credit.begin()[b], which);
            } else if (c.kind == Learning::bp1) {
                Vec<T> signal = {};
                for (Index o = 0; o < c.outputs; ++o)
                    signal = fma(load(u.row(o) + j, which), broadcast(error[o]), signal);
                if (!c.decorrelation) signal *= load(slope.row(b) + j, which);
                store(out, signal, which);
            }
        });
        if (c.kind == Learning::rflo) project(part, b, error);
    }
    if (c.decorrelation && c.kind == Learning::bp1) {
        const Index first = first_unit(part);
        clear(back_parts, part, c.batch);
        sum_rows<T>(d.row(first), d.stride, first_unit(part + 1) - first,
                    {delta.begin() + first, units, c.batch}, back_parts.row(part * c.batch),
                    d.stride);
    }
    if (!c.decorrelation) return;
    plan_decorrelation(part, t);
    if (c.preserve) {
        each_block(part, d, [&](Index first, Index) { learn_preserving(first); });
        enter_decorrelated(part, entering_at(t + 1));
    } else {
        enter_corrected(part, t);
    }
}

template <class T>
inline void Online<T>::project(Index part, Index b, const T* error) {
    for (Index i = first_unit(part); i < first_unit(part + 1); ++i) {
        T signal = 0;
        for (Index o = 0; o < c.outputs; ++o) signal += c.feedback[i * c.outputs + o] * error[o];
        delta.row(b)[i] = c.trace ? signal : signal * slope.row(b)[i];
    }
}

// bp1 under D: the signal at h is D^T times that at h*.
template <class T>
inline void Online<T>::back_signals(Index part) {
    for (Index b = 0; b < c.batch; ++b)
        each_own(part, [&](Index j, auto which) {
            Vec<T> sum = {};
            for (Index p = 0; p < kParts; ++p)
                sum += load(back_parts.row(p * c.batch + b) + j, which);
            store(delta.row(b) + j, sum * load(slope.row(b) + j, which), which);
        });
}

}  // namespace kernels
