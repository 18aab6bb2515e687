// Every kernel on odd sizes, on arrays that end where their last element ends: what a sanitizer watches.
//
// Outputs start as NaN: a value that no kernel writes, or that comes from beyond an input, is found at the end.
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "direct.h"
#include "forward.h"
#include "gradients.h"
#include "head.h"
#include "online.h"

using kernels::Cell;
using kernels::Index;

namespace {

int failures = 0;

template <class T>
class Array {
  public:
    Array(Index n, bool output) : n_(n), data_(new T[std::size_t(n)]) {
        for (Index i = 0; i < n; ++i)
            data_[i] = output ? std::numeric_limits<T>::quiet_NaN() : T((i * 37 + n) % 23 - 11) / 50;
    }
    T* get() const { return data_.get(); }
    void expect_written(const char* what) const {
        for (Index i = 0; i < n_; ++i)
            if (!std::isfinite(data_[i])) {
                std::printf("%s: element %td of %td was not written\n", what, i, n_);
                ++failures;
                return;
            }
    }

  private:
    Index n_;
    std::unique_ptr<T[]> data_;
};

template <class T>
void run(Cell cell, Index threads, Index steps, Index batch, Index inputs, Index hidden, bool extras) {
    const Index nodes = kernels::gates_of(cell) * hidden, rows = steps * batch;
    const Array<T> ih(nodes * inputs, false), hh(nodes * hidden, false), b_ih(nodes, false), b_hh(nodes, false);
    const Array<T> x(rows * inputs, false), noise(rows * nodes, false), start(batch * hidden, false);
    const Array<T> h((steps + 1) * batch * hidden, true), c((steps + 1) * batch * hidden, true);
    const Array<T> gates(rows * nodes, true), auxiliary(rows * hidden, true);
    const bool plain = cell == Cell::rnn && !extras, lstm = cell == Cell::lstm;
    const kernels::Layer<T> layer{cell, threads, steps, batch, inputs, hidden,
                                  cell == Cell::rnn && extras ? T(0.5) : T(1),
                                  ih.get(), hh.get(), extras ? b_ih.get() : nullptr, extras ? b_hh.get() : nullptr};
    const kernels::History<T> past{h.get(), lstm ? c.get() : nullptr,
                                   plain ? h.get() + batch * hidden : gates.get(),
                                   cell == Cell::rnn ? nullptr : auxiliary.get()};
    kernels::Forward<T>(layer, x.get(), extras ? noise.get() : nullptr, past).run(start.get(), start.get());
    h.expect_written("states");
    if (lstm) c.expect_written("cell states");
    if (!plain) gates.expect_written("gates");
    if (cell != Cell::rnn) auxiliary.expect_written("auxiliary");

    const Array<T> signal(rows * hidden, false), delta(rows * nodes, true);
    const Array<T> at_h(batch * hidden, false), at_c(batch * hidden, false);
    kernels::Backward<T>(layer, past, extras ? signal.get() : nullptr, delta.get())
        .run(at_h.get(), lstm ? at_c.get() : nullptr);
    delta.expect_written("node signals");
    at_h.expect_written("signals at the start");

    const Array<std::int64_t> lengths(batch, false);
    for (Index b = 0; b < batch; ++b) lengths.get()[b] = 1 + b % steps;
    const Array<T> one(batch * hidden, false), local(rows * nodes, true);
    const kernels::StateSignal<T> every{signal.get(), batch * hidden, lengths.get()}, last{one.get(), 0, nullptr};
    kernels::credit_all<T>(layer, past, extras ? every : last, local.get());
    local.expect_written("local node signals");
    for (const bool direct : {false, true}) {
        if (direct && cell == Cell::gru_reset_before) continue;
        const Array<T> g_ih(nodes * inputs, true), g_hh(nodes * hidden, true), g_b(nodes, true), g_c(nodes, true);
        const kernels::Gradients<T> out{g_ih.get(), g_hh.get(), extras ? g_b.get() : nullptr,
                                        extras ? g_c.get() : nullptr};
        if (direct)
            kernels::credited_gradients<T>(layer, past, x.get(), extras ? every : last, out);
        else
            kernels::gradients<T>(layer, past, x.get(), delta.get(), out);
        g_ih.expect_written("input weights");
        g_hh.expect_written("state weights");
        if (extras) g_b.expect_written("biases"), g_c.expect_written("state biases");
    }

    constexpr Index outputs = 3;
    const Array<T> weight(outputs * hidden, false), values(batch * outputs, false), f(hidden * outputs, false);
    const Array<T> made(batch * outputs, true), errors(batch * outputs, true), loss(1, true);
    const Array<T> g_weight(outputs * hidden, true), g_ih(nodes * inputs, true), g_hh(nodes * hidden, true);
    kernels::direct<T>(layer, past, x.get(), start.get(), start.get(),
                       {kernels::Loss::mse, batch, hidden, outputs, h.get() + steps * batch * hidden, weight.get(),
                        nullptr, nullptr, values.get(), made.get(), errors.get(), loss.get(), nullptr,
                        g_weight.get(), nullptr},
                       f.get(), {g_ih.get(), g_hh.get(), nullptr, nullptr});
    g_weight.expect_written("readout weights at once");
    g_ih.expect_written("input weights at once");
    g_hh.expect_written("state weights at once");
}

template <class T>
void run_head(kernels::Loss kind, Index rows, Index hidden, Index outputs, bool biased) {
    const Array<T> features(rows * hidden, false), weight(outputs * hidden, false), bias(outputs, false);
    const Array<T> values(rows * outputs, false), made(rows * outputs, true), errors(rows * outputs, true);
    const Array<T> loss(1, true), accuracy(1, true), g_weight(outputs * hidden, true), g_bias(outputs, true);
    const Array<std::int64_t> classes(rows, false);
    for (Index n = 0; n < rows; ++n) classes.get()[n] = n % (outputs + 1);  // one of them out of range
    const bool classifies = kind == kernels::Loss::cross_entropy;
    kernels::Head<T>({kind, rows, hidden, outputs, features.get(), weight.get(), biased ? bias.get() : nullptr,
                      classifies ? classes.get() : nullptr, classifies ? nullptr : values.get(), made.get(),
                      errors.get(), loss.get(), classifies ? accuracy.get() : nullptr, g_weight.get(),
                      biased ? g_bias.get() : nullptr})
        .run();
    made.expect_written("outputs");
    errors.expect_written("output errors");
    loss.expect_written("loss");
    if (classifies) accuracy.expect_written("accuracy");
    g_weight.expect_written("readout weights");
    if (biased) g_bias.expect_written("readout biases");
    const Array<T> feedback(hidden * outputs, false), signal(rows * hidden, true);
    kernels::project<T>(rows, hidden, outputs, errors.get(), feedback.get(), signal.get());
    signal.expect_written("projected errors");
}

template <class T>
void learn(kernels::Learning kind, Index threads, Index batch, Index inputs, Index hidden, Index outputs,
           bool extras, bool preserve, bool orthogonal) {
    constexpr Index steps = 5;
    using kernels::Learning;
    const bool noisy = kind >= Learning::np, many = preserve && (kind == Learning::np || kind == Learning::anp);
    const bool traced = kind == kernels::Learning::rflo && extras;
    const Index width = hidden + inputs + (extras ? 1 : 0);
    const Array<T> ih(hidden * inputs, false), hh(hidden * hidden, false), b_ih(hidden, false), b_hh(hidden, false);
    const Array<T> readout(outputs * hidden, false), bias(outputs, false), d(hidden * hidden, false);
    const Array<T> x(steps * batch * inputs, false), y(steps * batch * outputs, false), f(hidden * outputs, false);
    const Array<T> h(batch * hidden, false), other(batch * hidden, false);
    const Array<T> trace(traced ? batch * hidden * width : 1, false);
    const Array<T> losses(steps, true), out(steps * batch * outputs, true);
    const kernels::OnlineCall<T> call{
        kind, threads, steps, batch, inputs, hidden, outputs, many ? 37 : 1, many && extras, orthogonal, false, orthogonal, preserve,
        extras ? T(0.5) : T(1), T(1e-4), T(1e-4), T(0.1), 7, 3, ih.get(), hh.get(), extras ? b_ih.get() : nullptr, extras ? b_hh.get() : nullptr,
        readout.get(), extras ? bias.get() : nullptr, extras || preserve ? d.get() : nullptr, x.get(), y.get(),
        f.get(), h.get(), noisy && !many ? other.get() : nullptr, traced ? trace.get() : nullptr, losses.get(), out.get()};
    kernels::Online<T>(call).run();
    losses.expect_written("losses");
    out.expect_written("outputs");
    for (const Array<T>* learned : {&ih, &hh, &readout, &d, &h}) learned->expect_written("what learned");
}

template <class T>
void draw(Index threads, Index steps, Index count) {
    const Array<T> drawn(steps * count, true);
    kernels::normal<T>(threads, 7, 3, steps, 1, count, drawn.get());
    drawn.expect_written("noise");
}

template <class T>
void all() {
    constexpr Index heads[][3] = {{1, 1, 1}, {10, 50, 2}, {7, 67, 5}, {120, 33, 3}};
    for (const auto kind : {kernels::Loss::cross_entropy, kernels::Loss::mse})
        for (const auto& size : heads)
            for (const bool biased : {false, true})
                run_head<T>(kind, size[0], size[1], size[2], biased);

    constexpr Index sizes[][4] = {{1, 1, 1, 1}, {3, 5, 2, 7}, {6, 10, 1, 50}, {5, 13, 9, 67}, {2, 66, 3, 130}};
    for (const Cell cell : {Cell::rnn, Cell::gru, Cell::gru_reset_before, Cell::lstm})
        for (const Index threads : {1, 2, 3})
            for (const auto& size : sizes)
                for (const bool extras : {false, true})
                    run<T>(cell, threads, size[0], size[1], size[2], size[3], extras);
    using kernels::Learning;
    constexpr Index streams[][4] = {{1, 1, 1, 1}, {3, 2, 7, 5}, {1, 1, 70, 1}, {6, 3, 67, 9}};
    for (const Learning kind : {Learning::bp1, Learning::rflo, Learning::np, Learning::anp, Learning::wp,
                                Learning::anp_authors_code})
        for (const Index threads : {1, 2, 3})
            for (const auto& size : streams)
                for (const int form : {0, 1, 2})
                    for (const bool orthogonal : {false, true})
                        learn<T>(kind, threads, size[0], size[1], size[2], size[3], form > 0, form > 1, orthogonal);
    for (const Index count : {1, 31, 32, 33, 500, 3000}) draw<T>(2, 3, count);
}

// After waits in vain the team is left out of 1, 3, 7, ... jobs; after others, of half as many as before.
void doubt() {
    using Clock = kernels::Trust::Clock;
    kernels::Trust trust;
    const auto alone = [&](std::chrono::seconds worked, std::chrono::seconds waited) {
        const auto now = Clock::now();
        trust.judge(2, 1, now - waited - worked, now - waited);
        Index jobs = 0;
        while (trust.withheld()) ++jobs;
        return jobs;
    };
    using std::chrono::seconds;
    const Index found[] = {alone(seconds(9), seconds(1)), alone(seconds(1), seconds(9)), alone(seconds(1), seconds(9)),
                           alone(seconds(1), seconds(9)), alone(seconds(9), seconds(1))};
    constexpr Index wanted[] = {0, 1, 3, 7, 3};
    for (int i = 0; i < 5; ++i)
        if (found[i] != wanted[i]) std::printf("trust: %td jobs alone, not %td\n", found[i], wanted[i]), ++failures;
}

}  // namespace

int main() {
    doubt();
    all<float>();
    all<double>();
    return failures != 0;
}
