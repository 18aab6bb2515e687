// One step of descent, as torch.optim makes it. A rule is called with a vector of the gradient, and where the
// weight and its moments are.
//
// Rows of a gradient are written down before weights move: some at a time, while they are near, or, to be
// clipped, all of them. Moments and weights are then one long row, however short those of the parameter are.
#pragma once

#include <cmath>

#include "../noise.h"
#include "call.h"

namespace kernels {

template <class T>
struct Plain {
    static constexpr bool keeps_first = false, keeps_second = false;
    T lr, weight_decay;

    Plain(const GroupCall& group, double, bool) : lr(T(group.lr)), weight_decay(T(group.weight_decay)) {}

    template <class Which>
    void operator()(Vec<T> gradient, T* value, T*, T*, Which which) const {
        const Vec<T> w = load(value, which);
        store(value, fma(fma(w, broadcast(weight_decay), gradient), broadcast(-lr), w), which);
    }
};

template <class T>
struct Momentum {
    static constexpr bool keeps_first = true, keeps_second = false;
    T lr, weight_decay, momentum, taken;
    bool nesterov;

    Momentum(const GroupCall& group, double, bool)
        : lr(T(group.lr)), weight_decay(T(group.weight_decay)), momentum(T(group.momentum)),
          taken(T(1 - group.dampening)), nesterov(group.nesterov != 0) {}

    template <class Which>
    void operator()(Vec<T> gradient, T* value, T* first, T*, Which which) const {
        const Vec<T> w = load(value, which), g = fma(w, broadcast(weight_decay), gradient);
        const Vec<T> moved = fma(load(first, which), broadcast(momentum), g * taken);
        store(first, moved, which);
        store(value, fma(nesterov ? fma(moved, broadcast(momentum), g) : moved, broadcast(-lr), w), which);
    }
};

template <class T>
struct Adam {
    static constexpr bool keeps_first = true, keeps_second = true;
    T shrink, weight_decay, taken, kept, decay, size, scale, epsilon;

    // step: the number of this one, from 1. decouples: AdamW's weight decay, past the moments.
    Adam(const GroupCall& group, double step, bool decouples)
        : shrink(decouples ? T(1 - group.lr * group.weight_decay) : T(1)),
          weight_decay(decouples ? T(0) : T(group.weight_decay)), taken(T(1 - group.momentum)),
          kept(T(1 - group.decay)), decay(T(group.decay)),
          size(T(group.lr / (1 - std::pow(group.momentum, step)))),
          scale(T(1 / std::sqrt(1 - std::pow(group.decay, step)))), epsilon(T(group.epsilon)) {}

    template <class Which>
    void operator()(Vec<T> gradient, T* value, T* first, T* second, Which which) const {
        const Vec<T> w = load(value, which) * shrink, g = fma(w, broadcast(weight_decay), gradient);
        const Vec<T> before = load(first, which);
        const Vec<T> m = fma(g - before, broadcast(taken), before);
        const Vec<T> v = fma(load(second, which), broadcast(decay), g * g * kept);
        store(first, m, which);
        store(second, v, which);
        store(value, w - m * size / fma(root(v), broadcast(scale), broadcast(epsilon)), which);
    }
};

template <class T>
struct RmsProp {
    static constexpr bool keeps_first = false, keeps_second = true;
    T lr, weight_decay, decay, kept, epsilon;

    RmsProp(const GroupCall& group, double, bool)
        : lr(T(group.lr)), weight_decay(T(group.weight_decay)), decay(T(group.decay)),
          kept(T(1 - group.decay)), epsilon(T(group.epsilon)) {}

    template <class Which>
    void operator()(Vec<T> gradient, T* value, T*, T* second, Which which) const {
        const Vec<T> w = load(value, which), g = fma(w, broadcast(weight_decay), gradient);
        const Vec<T> v = fma(load(second, which), broadcast(decay), g * g * kept);
        store(second, v, which);
        store(value, w - g * lr / (root(v) + epsilon), which);
    }
};

// No descent: the gradients of all steps are added up.
template <class T>
struct Sum {
    static constexpr bool keeps_first = true, keeps_second = false;

    template <class Which>
    void operator()(Vec<T> gradient, T*, T* first, T*, Which which) const {
        store(first, load(first, which) + gradient, which);
    }
};

// A parameter (rows, columns) with its optimizer's state.
template <class T>
struct Learner {
    T *value, *first, *second;
    T* gradient = nullptr;  // where the whole of it is written, to be clipped
    float* step;  // how many the optimizer has made, where it counts
    Index columns;
    const GroupCall* group;  // null: it does not learn

    Learner(const ParameterCall& call, Index columns, const GroupCall* groups)
        : value(reinterpret_cast<T*>(call.value)), first(reinterpret_cast<T*>(call.first)),
          second(reinterpret_cast<T*>(call.second)), step(reinterpret_cast<float*>(call.step)),
          columns(columns), group(value && call.group >= 0 ? groups + call.group : nullptr) {}

    // Elements [at, at + count) as one row, for vectors.
    Learner slice(Index at, Index count) const {
        Learner part = *this;
        part.value += at;
        if (gradient) part.gradient += at;
        if (first) part.first += at;
        if (second) part.second += at;
        part.columns = count;
        return part;
    }

    // Columns [at, at + count) of rows [from, to) of the gradient, of which row i at column j is of(i)(j, which).
    template <class Of>
    void write(Index from, Index to, Index at, Index count, const Of& of, T* out) const {
        for (Index i = from; i < to; ++i, out += count) {
            const auto row = of(i);
            each_vector<T>(count, [&](Index j, auto which) __attribute__((always_inline)) {
                store(out + j, row(at + j, which), which);
            });
        }
    }

    // `count` elements from `at` on, along `scale` times their gradient.
    template <class Rule>
    void learn_by(const Rule rule, Index at, Index count, const T* gradient, T scale) const {
        T* w = value + at;
        T* m = Rule::keeps_first ? first + at : nullptr;
        T* v = Rule::keeps_second ? second + at : nullptr;
        each_vector<T>(count, [=](Index j, auto which) __attribute__((always_inline)) {
            rule(load(gradient + j, which) * scale, w + j, Rule::keeps_first ? m + j : nullptr,
                 Rule::keeps_second ? v + j : nullptr, which);
        });
    }
};

// One step of the optimizer: body(its rule).
template <class T, class Body>
void choose_rule(const Learner<T>& learner, Descent kind, bool decouples, const Body& body) {
    const GroupCall& group = *learner.group;
    const double step = learner.step ? double(*learner.step) + 1 : 1;
    if (kind == Descent::none)
        body(Sum<T>());
    else if (kind == Descent::adam)
        body(Adam<T>(group, step, decouples));
    else if (kind == Descent::rmsprop)
        body(RmsProp<T>(group, step, decouples));
    else if (group.momentum != 0)
        body(Momentum<T>(group, step, decouples));
    else
        body(Plain<T>(group, step, decouples));
}

constexpr Index kGradientRoom = 2048;  // elements that stay near between being written and being used

// Learn along rows [from, to) of a gradient, some at a time in `near`, of kGradientRoom; or write them down.
template <class T, class Of>
void descend(const Learner<T>& learner, Descent kind, bool decouples, Index from, Index to, const Of& of, T* near) {
    const Index columns = learner.columns;
    if (!learner.group || columns == 0) return;  // more threads than units: nothing is this one's
    if (learner.gradient) return learner.write(from, to, 0, columns, of, learner.gradient + from * columns);
    const Index width = columns < kGradientRoom ? columns : kGradientRoom, some = kGradientRoom / width;
    choose_rule(learner, kind, decouples, [&](const auto& rule) {
        for (Index i = from; i < to; i += some)
            for (Index at = 0; at < columns; at += width) {
                const Index last = i + some < to ? i + some : to, count = at + width < columns ? width : columns - at;
                learner.write(i, last, at, count, of, near);
                learner.learn_by(rule, i * columns + at, (last - i) * count, near, T(1));
            }
    });
}

}  // namespace kernels
