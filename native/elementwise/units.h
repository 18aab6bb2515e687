// The element-wise cells: what a vector of units does in one step, and what that owes to the step before.
//
// A cell has `gates` nodes and `states` states a unit. `Own` is what the step knows of the units' parameters, `Local`
// what the step's derivatives need. A trace of an entering value x is `gates` numbers a unit, one for each of its
// nodes: the LRU's two are the parts of one complex number, for its node is one complex number.
#pragma once

#include <cmath>

#include "../activations.h"
#include "../noise.h"

namespace kernels {

// cos and sin. Beyond `limit` turns are taken away by the library, lane by lane.
template <class T>
struct Turn {
    Vec<T> cos, sin;
};
template <class T>
inline Turn<T> turn(Vec<T> angle) {
    constexpr bool narrow = sizeof(T) == 4;
    constexpr T limit = narrow ? T(1e3) : T(1e5);
    Vec<T> far = {};
    for (Index i = 0; i < kLanes<T>; ++i) far[i] = angle[i] > limit || angle[i] < -limit;
    T beyond = 0;
    for (Index i = 0; i < kLanes<T>; ++i) beyond += far[i];
    if (beyond != 0) {
        Turn<T> found;
        for (Index i = 0; i < kLanes<T>; ++i)
            found.cos[i] = std::cos(angle[i]), found.sin[i] = std::sin(angle[i]);
        return found;
    }
    // angle = k pi / 2 + r; k times the first parts is exact
    constexpr T high = narrow ? T(1.5703125) : T(1.57079632673412561417);
    constexpr T middle = narrow ? T(4.837512969970703125e-4) : T(6.07710050630396597660e-11);
    constexpr T low = narrow ? T(7.54978995489188216e-8) : T(2.02226624879595063154e-21);
    const Vec<T> shifted = fma(angle, broadcast<T>(0.63661977236758134308), broadcast(ExpConstants<T>::round));
    const Vec<T> k = shifted - ExpConstants<T>::round;
    Vec<T> r = fma(k, broadcast(-high), angle);
    r = fma(k, broadcast(-middle), r);
    r = fma(k, broadcast(-low), r);
    constexpr T sines[] = {T(1.0 / 355687428096000), T(-1.0 / 1307674368000), T(1.0 / 6227020800), T(-1.0 / 39916800),
                           T(1.0 / 362880), T(-1.0 / 5040), T(1.0 / 120), T(-1.0 / 6)};
    constexpr T cosines[] = {T(1.0 / 20922789888000), T(-1.0 / 87178291200), T(1.0 / 479001600), T(-1.0 / 3628800),
                             T(1.0 / 40320), T(-1.0 / 720), T(1.0 / 24), T(-1.0 / 2)};
    const Vec<T> square = r * r;
    const Vec<T> sin = fma(r * square, polynomial(sines, square), r);
    const Vec<T> cos = fma(square, polynomial(cosines, square), broadcast<T>(1));
    const BitVec<T> quarter = (BitVec<T>)shifted;  // its low bits are those of k
    const BitVec<T> odd = (quarter & 1) != 0, sine_minus = (quarter & 2) != 0, cosine_minus = ((quarter + 1) & 2) != 0;
    const Vec<T> first = (Vec<T>)(((BitVec<T>)sin & ~odd) | ((BitVec<T>)cos & odd));
    const Vec<T> second = (Vec<T>)(((BitVec<T>)cos & ~odd) | ((BitVec<T>)sin & odd));
    const BitVec<T> sign = (BitVec<T>)broadcast<T>(-0.0);
    return {(Vec<T>)((BitVec<T>)second ^ (sign & cosine_minus)), (Vec<T>)((BitVec<T>)first ^ (sign & sine_minus))};
}

template <class T>
inline Vec<T> exp(Vec<T> x) {
    const Exponential<T> e = exponential<T>(x);
    return fma(e.scale, e.tail, e.scale);
}

// h = tanh(u h + a).
template <class T>
struct IndRnnUnits {
    using V = Vec<T>;
    static constexpr int gates = 1, states = 1, at_once = 8;
    static constexpr bool owns = true, keeps_gates = false, has_auxiliary = false;

    struct Own {
        V u;
        template <class Which>
        Own(const T* const (&own)[2], Index j, Which which) : u(load(own[0] + j, which)) {}
    };
    struct Local {
        V keep, slope, before;
        Local(const Own& own, const V (&h)[1], V, const V (&before)[1])
            : slope(fma(-h[0], h[0], broadcast<T>(1))), before(before[0]) {
            keep = slope * own.u;
        }
    };

    static V gain(const Own&) { return broadcast<T>(1); }
    // What the states owe to the units' own parameters within the step, from V x + b.
    static void by_own(const Own&, const Local& l, const V (&)[1], V (&slope)[2][1]) { slope[0][0] = l.slope * l.before; }
    static void step(const Own& own, const V (&a)[1], const V (&h)[1], V (&)[1], V&, V (&after)[1]) {
        after[0] = tanh<T>(fma(own.u, h[0], a[0]));
    }
    static void back(const Local& l, V (&s)[1], V (&delta)[1]) {
        delta[0] = l.slope * s[0];
        s[0] *= l.keep;
    }
    static void follow(const Local& l, V (&e)[1], V x) { e[0] = fma(l.keep, e[0], l.slope * x); }
    static void follow_own(const Local& l, V (&e)[1]) { follow(l, e, l.before); }
    static void meet(V (&sum)[1], const V (&e)[1], const V (&s)[1]) { sum[0] = fma(e[0], s[0], sum[0]); }
};

// h = lambda h + a, complex; gamma is in a.
template <class T>
struct LruUnits {
    using V = Vec<T>;
    static constexpr int gates = 2, states = 2, at_once = 4;
    static constexpr bool owns = true, keeps_gates = false, has_auxiliary = false;

    struct Own {
        V grown, turned, re, im, gamma, ratio;  // e^nu, e^theta, lambda, gamma, |lambda|^2 / gamma
        template <class Which>
        Own(const T* const (&own)[2], Index j, Which which)
            : grown(exp<T>(load(own[0] + j, which))), turned(exp<T>(load(own[1] + j, which))) {
            const V size = exp<T>(-grown);
            const Turn<T> angle = turn<T>(turned);
            re = size * angle.cos, im = size * angle.sin;
            const Exponential<T> square = exponential<T>(grown * T(-2));
            gamma = root(-fma(square.scale, square.tail, square.scale - T(1)));
            ratio = fma(square.scale, square.tail, square.scale) / gamma;
        }
    };
    struct Local {
        V re, im, before_re, before_im;
        Local(const Own& own, const V (&)[2], V, const V (&before)[2])
            : re(own.re), im(own.im), before_re(before[0]), before_im(before[1]) {}
    };

    static V gain(const Own& own) { return own.gamma; }
    static void by_own(const Own& own, const Local& l, const V (&entered)[2], V (&slope)[2][2]) {
        const V re = fma(l.re, l.before_re, -(l.im * l.before_im)), im = fma(l.re, l.before_im, l.im * l.before_re);
        slope[0][0] = own.grown * fma(own.ratio, entered[0], -re), slope[0][1] = own.grown * fma(own.ratio, entered[1], -im);
        slope[1][0] = -(own.turned * im), slope[1][1] = own.turned * re;
    }
    static void step(const Own& own, const V (&a)[2], const V (&h)[2], V (&)[2], V&, V (&after)[2]) {
        after[0] = fma(own.re, h[0], fma(-own.im, h[1], a[0]));
        after[1] = fma(own.re, h[1], fma(own.im, h[0], a[1]));
    }
    static void back(const Local& l, V (&s)[2], V (&delta)[2]) {
        const V re = s[0], im = s[1];
        delta[0] = re, delta[1] = im;
        s[0] = fma(l.re, re, l.im * im);
        s[1] = fma(l.re, im, -(l.im * re));
    }
    static void follow(const Local& l, V (&e)[2], V x) {
        const V re = e[0], im = e[1];
        e[0] = fma(l.re, re, fma(-l.im, im, x));
        e[1] = fma(l.re, im, l.im * re);
    }
    // Of lambda (h + what was carried): the trace of e^theta, and of -i e^nu.
    static void follow_own(const Local& l, V (&e)[2]) {
        const V re = e[0] + l.before_re, im = e[1] + l.before_im;
        e[0] = fma(l.re, re, -(l.im * im));
        e[1] = fma(l.re, im, l.im * re);
    }
    static void meet(V (&sum)[2], const V (&e)[2], const V (&s)[2]) {
        sum[0] = fma(e[0], s[0], fma(e[1], s[1], sum[0]));
        sum[1] = fma(e[0], s[1], fma(-e[1], s[0], sum[1]));
    }
};

// h = (1 - z) h + z c.
template <class T>
struct MinGruUnits {
    using V = Vec<T>;
    static constexpr int gates = 2, states = 1, at_once = 4;
    static constexpr bool owns = false, keeps_gates = true, has_auxiliary = false;

    struct Own {
        template <class Which>
        Own(const T* const (&)[2], Index, Which) {}
    };
    struct Local {
        V keep, update, candidate;
        Local(const Own&, const V (&gate)[2], V, const V (&before)[1]) : keep(T(1) - gate[0]), candidate(gate[0]) {
            update = (gate[1] - before[0]) * gate[0] * keep;
        }
    };

    static V gain(const Own&) { return broadcast<T>(1); }
    static void by_own(const Own&, const Local&, const V (&)[2], V (&)[2][1]) {}
    static void step(const Own&, const V (&a)[2], const V (&h)[1], V (&gate)[2], V&, V (&after)[1]) {
        gate[0] = sigmoid<T>(a[0]), gate[1] = a[1];
        after[0] = fma(gate[0], a[1] - h[0], h[0]);
    }
    static void back(const Local& l, V (&s)[1], V (&delta)[2]) {
        delta[0] = l.update * s[0], delta[1] = l.candidate * s[0];
        s[0] *= l.keep;
    }
    static void follow(const Local& l, V (&e)[2], V x) {
        e[0] = fma(l.keep, e[0], l.update * x);
        e[1] = fma(l.keep, e[1], l.candidate * x);
    }
    static void follow_own(const Local&, V (&)[2]) {}
    static void meet(V (&sum)[2], const V (&e)[2], const V (&s)[1]) {
        sum[0] = fma(e[0], s[0], sum[0]);
        sum[1] = fma(e[1], s[0], sum[1]);
    }
};

// h = (f h + i c) / (f + i); the auxiliary number is w = i / (f + i).
template <class T>
struct MinLstmUnits {
    using V = Vec<T>;
    static constexpr int gates = 3, states = 1, at_once = 4;
    static constexpr bool owns = false, keeps_gates = true, has_auxiliary = true;

    struct Own {
        template <class Which>
        Own(const T* const (&)[2], Index, Which) {}
    };
    struct Local {
        V keep, slope[3];
        Local(const Own&, const V (&gate)[3], V written, const V (&before)[1]) : keep(T(1) - written) {
            const V share = (gate[2] - before[0]) * written * keep;
            slope[0] = share * (gate[0] - T(1));
            slope[1] = share * (T(1) - gate[1]);
            slope[2] = written;
        }
    };

    static V gain(const Own&) { return broadcast<T>(1); }
    static void by_own(const Own&, const Local&, const V (&)[3], V (&)[2][1]) {}
    static void step(const Own&, const V (&a)[3], const V (&h)[1], V (&gate)[3], V& written, V (&after)[1]) {
        // Far below zero both gates are exponentials, and only their quotient counts: they are raised together,
        // before they are too small for a number.
        const V raised = larger(broadcast<T>(0), T(-40) - larger(a[0], a[1]));
        gate[0] = sigmoid<T>(a[0] + raised), gate[1] = sigmoid<T>(a[1] + raised), gate[2] = a[2];
        written = gate[1] / (gate[0] + gate[1]);
        after[0] = fma(written, a[2] - h[0], h[0]);
    }
    static void back(const Local& l, V (&s)[1], V (&delta)[3]) {
        for (int g = 0; g < 3; ++g) delta[g] = l.slope[g] * s[0];
        s[0] *= l.keep;
    }
    static void follow(const Local& l, V (&e)[3], V x) {
        for (int g = 0; g < 3; ++g) e[g] = fma(l.keep, e[g], l.slope[g] * x);
    }
    static void follow_own(const Local&, V (&)[3]) {}
    static void meet(V (&sum)[3], const V (&e)[3], const V (&s)[1]) {
        for (int g = 0; g < 3; ++g) sum[g] = fma(e[g], s[0], sum[g]);
    }
};

enum class ElementwiseCell : int { indrnn, lru, mingru, minlstm };

inline Index units_gates(ElementwiseCell cell) {
    return cell == ElementwiseCell::indrnn ? 1 : cell == ElementwiseCell::minlstm ? 3 : 2;
}

// body(the units of the cell)
template <class T, class Body>
void with_units(ElementwiseCell cell, const Body& body) {
    switch (cell) {
        case ElementwiseCell::indrnn:
            return body(IndRnnUnits<T>());
        case ElementwiseCell::lru:
            return body(LruUnits<T>());
        case ElementwiseCell::mingru:
            return body(MinGruUnits<T>());
        case ElementwiseCell::minlstm:
            return body(MinLstmUnits<T>());
    }
}

// Features of a state: itself (0), relu (1) or tanh (2) of it; and their slopes.
template <class T>
inline Vec<T> squashed(std::int64_t squash, Vec<T> h) {
    return squash == 0 ? h : squash == 1 ? larger(broadcast<T>(0), h) : tanh<T>(h);
}
template <class T>
inline Vec<T> slope_of_squash(std::int64_t squash, Vec<T> h) {
    if (squash == 1) return (Vec<T>)((BitVec<T>)broadcast<T>(1) & (BitVec<T>)(h > broadcast<T>(0)));
    const Vec<T> f = tanh<T>(h);
    return fma(-f, f, broadcast<T>(1));
}

}  // namespace kernels
