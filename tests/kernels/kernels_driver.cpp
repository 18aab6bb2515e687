// Every kernel on odd sizes, on arrays that end where their last element ends: what a sanitizer watches.
//
// Outputs start as NaN: a value that no kernel writes, or that comes from beyond an input, is found at the end.
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "direct.h"
#include "elementwise/sequence.h"
#include "forward.h"
#include "gradients.h"
#include "head.h"
#include "online/online.h"
#include "perturbed_weights.h"
#include "stream/stream.h"

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
    const bool by_class = extras && (kind == kernels::Learning::bp1 || kind == kernels::Learning::rflo);
    std::vector<std::int64_t> labels;
    for (Index n = 0; n < steps * batch; ++n) labels.push_back(n % outputs);
    kernels::OnlineArguments told{};
    told.outputs = outputs, told.label_smoothing = 0.1;
    told.loss = Index(by_class ? kernels::Penalty::cross_entropy : kernels::Penalty::squares);
    told.y = by_class ? reinterpret_cast<kernels::Address>(labels.data()) : reinterpret_cast<kernels::Address>(y.get());
    const kernels::OnlineCall<T> call{
        kind, threads, steps, batch, inputs, hidden, outputs, many ? 37 : 1, many && extras, orthogonal, false, orthogonal, preserve,
        extras ? T(0.5) : T(1), T(1e-4), T(1e-4), T(0.1), 7, 3, ih.get(), hh.get(), extras ? b_ih.get() : nullptr, extras ? b_hh.get() : nullptr,
        readout.get(), extras ? bias.get() : nullptr, extras || preserve ? d.get() : nullptr, x.get(), y.get(),
        f.get(), h.get(), noisy && !many ? other.get() : nullptr, traced ? trace.get() : nullptr, losses.get(), out.get(),
        kernels::Judge<T>(told)};
    kernels::Online<T>(call).run();
    losses.expect_written("losses");
    out.expect_written("outputs");
    for (const Array<T>* learned : {&ih, &hh, &readout, &d, &h}) learned->expect_written("what learned");
}

// A stream of stages, on a network of so many layers: every credit, trace, loss and optimizer there is.
template <class T>
struct StreamRun {
    kernels::StreamCall call{};
    std::vector<kernels::LayerCall> layers;
    kernels::GroupCall group{0.01, 0.1, 0.9, 0.1, 0.99, 1e-8, 1};
    std::vector<std::unique_ptr<Array<T>>> kept;
    std::vector<std::unique_ptr<std::vector<float>>> counts;
    std::vector<std::int64_t> labels;

    T* array(Index count, bool output = false) {
        kept.push_back(std::make_unique<Array<T>>(count, output));
        return kept.back()->get();
    }
    kernels::Address address(Index count) { return reinterpret_cast<kernels::Address>(array(count)); }
    kernels::ParameterCall parameter(Index count) {
        T* squares = array(count);
        for (Index i = 0; i < count; ++i) squares[i] *= squares[i];
        counts.push_back(std::make_unique<std::vector<float>>(1, 3.0f));
        return {address(count), address(count), reinterpret_cast<kernels::Address>(squares),
                reinterpret_cast<kernels::Address>(counts.back()->data()), 0};
    }

    // cell: its code in a call, of an element-wise one from kFirstUnits on.
    StreamRun(Index cell, kernels::Spread credit, kernels::Past past, kernels::Penalty loss, kernels::Descent descent,
              Index threads, Index depth, Index batch, Index inputs, Index hidden, Index outputs, bool extras,
              bool clips) {
        constexpr Index steps = 4;
        using kernels::Spread;
        const bool noisy = credit == Spread::nodes || credit == Spread::activity, shaken = credit == Spread::weights;
        const Index directions = extras ? 2 : 1, copies = directions * (extras ? 2 : 1);
        const bool units = cell >= kernels::kFirstUnits, complex = units && cell - kernels::kFirstUnits == 1;
        const Index gates = units ? kernels::units_gates(kernels::ElementwiseCell(cell - kernels::kFirstUnits))
                                  : kernels::gates_of(Cell(cell));
        const Index nodes = gates * hidden, states = Cell(cell) == Cell::lstm || complex ? 2 : 1;
        const Index features = complex ? 2 * hidden : hidden;
        const bool carries = !noisy || extras, decays = noisy && extras, traced = past != kernels::Past::none;
        layers.resize(std::size_t(depth));
        for (Index l = 0; l < depth; ++l) {
            const Index width = l ? features : inputs;
            const Index sizes[] = {nodes * width, units ? hidden : nodes * hidden, nodes, units ? hidden : nodes};
            kernels::LayerCall& own = layers[std::size_t(l)];
            for (int k = 0; k < 4; ++k) {
                if (!extras && (units ? k == 2 : k > 1)) continue;  // no biases
                own.parameters[k] = parameter(sizes[k]);
                for (Index s = 0; traced && s < states; ++s) own.traces[s][k] = address(batch * sizes[k]);
                if (decays) own.credits[k] = address(batch * copies * sizes[k]);
            }
            own.feedback = address(features * outputs);
            if (extras && !units) own.decorrelation = address(hidden * hidden);
        }
        call.decorrelation_lr = 0.01, call.preserves_norm = clips;
        call.bytes = sizeof(T), call.threads = threads, call.steps = steps, call.batch = batch;
        call.inputs = inputs, call.hidden = hidden, call.outputs = outputs, call.layers = depth;
        call.cell = cell, call.squash = complex && extras ? 1 + depth % 2 : 0, call.credit = Index(credit), call.trace = Index(past), call.loss = Index(loss);
        call.optimizer = Index(descent), call.optimizer_decouples = extras;
        call.directions = directions, call.antithetic = extras, call.carries = carries;
        call.batch_reward = noisy && !extras, call.layer_norms = extras;
        call.orthogonal = noisy && !clips, call.clip = clips ? 0.01 : 0;
        call.gain = extras ? 0.5 : 1, call.sigma = 0.1, call.credit_decay = decays ? 0.9 : 0, call.label_smoothing = extras ? 0.1 : 0;
        call.key = 7, call.first_step = 3;
        call.x = address(steps * batch * inputs);
        if (loss == kernels::Penalty::cross_entropy) {
            for (Index n = 0; n < steps * batch; ++n) labels.push_back(n % outputs);
            call.y = reinterpret_cast<kernels::Address>(labels.data());
        } else {
            call.y = address(steps * batch * outputs);
        }
        if (extras) {
            T* mask = array(steps * batch);
            for (Index n = 0; n < steps * batch; ++n) mask[n] = T(n % 3);
            call.mask = reinterpret_cast<kernels::Address>(mask);
            T* weights = array(outputs);
            for (Index o = 0; o < outputs; ++o) weights[o] = T(1 + o % 2);
            call.class_weights = reinterpret_cast<kernels::Address>(weights);
        }
        call.states = address(batch * (noisy && carries ? 1 + copies : 1) * states * depth * hidden);
        if (shaken) call.noisy_states = address(batch * copies * states * depth * hidden);
        if (extras && clips == (threads != 2) && !noisy && !shaken) {
            call.readout_hidden = 1 + hidden / 2;
            call.inner = parameter(call.readout_hidden * features);
            call.inner_bias = parameter(call.readout_hidden);
        }
        call.readout = parameter(outputs * (call.readout_hidden ? call.readout_hidden : features));
        if (extras) call.readout_bias = parameter(outputs);
        if (decays) {
            call.readout_credits[0] = address(batch * copies * outputs * hidden);
            call.readout_credits[1] = address(batch * copies * outputs);
        }
        call.groups = reinterpret_cast<kernels::Address>(&group);
        call.layer = reinterpret_cast<kernels::Address>(layers.data());
        call.losses = reinterpret_cast<kernels::Address>(array(steps, true));
        call.out = reinterpret_cast<kernels::Address>(array(steps * batch * outputs, true));
        kernels::Stream<T>(call).run();
        for (const auto& own : kept) own->expect_written("what a stream keeps");
    }
};

template <class T>
void all_streams() {
    using namespace kernels;
    constexpr Index sizes[][5] = {{1, 1, 1, 1, 1}, {2, 3, 2, 7, 5}, {3, 1, 9, 35, 3}};
    constexpr Penalty losses[] = {Penalty::squares, Penalty::cross_entropy, Penalty::binary};
    constexpr Descent descents[] = {Descent::sgd, Descent::adam, Descent::rmsprop};
    int turn = 0;  // one after the other: all of these with all of those would take minutes
    for (const Cell cell : {Cell::rnn, Cell::gru, Cell::gru_reset_before, Cell::lstm})
        for (const Spread credit : {Spread::feedback, Spread::exact, Spread::nodes, Spread::activity, Spread::weights})
            for (const Past past : {Past::none, Past::leak, Past::diagonal}) {
                const bool knows_error = credit == Spread::feedback || credit == Spread::exact;
                if (past != Past::none && (!knows_error || cell == Cell::gru_reset_before)) continue;
                for (const auto& size : sizes)
                    for (const bool extras : {false, true}) {
                        const Index threads = 1 + turn % 3;
                        StreamRun<T>(Index(cell), credit, past, losses[turn % 3], descents[(turn + turn / 3) % 3], threads,
                                     size[0], size[1], size[2], size[3], size[4], extras, turn / 2 % 2 == 0);
                        ++turn;
                    }
            }
    for (Index units = 0; units < 4; ++units)
        for (const Spread credit : {Spread::feedback, Spread::exact})
            for (const Past past : {Past::none, Past::diagonal})
                for (const auto& size : sizes)
                    for (const bool extras : {false, true}) {
                        StreamRun<T>(kFirstUnits + units, credit, past, losses[turn % 3], descents[(turn + turn / 3) % 3],
                                     1 + turn % 3, size[0], size[1], size[2], size[3], size[4], extras, turn / 2 % 2 == 0);
                        ++turn;
                    }
}

// An element-wise layer over a sequence: forward, back, and by traces, from signals at every step or at the last ones.
template <class T>
void run_elementwise(kernels::ElementwiseCell cell, Index threads, Index steps, Index batch, Index inputs, Index hidden,
                     bool extras) {
    using kernels::ElementwiseCell;
    const bool complex = cell == ElementwiseCell::lru;
    const Index gates = complex || cell == ElementwiseCell::mingru ? 2 : cell == ElementwiseCell::minlstm ? 3 : 1;
    const Index rows = steps * batch, wide = (complex ? 2 : 1) * hidden, nodes = gates * hidden;
    std::vector<std::unique_ptr<Array<T>>> kept;
    const auto array = [&](Index count, bool output) {
        kept.push_back(std::make_unique<Array<T>>(count, output));
        return reinterpret_cast<std::int64_t>(kept.back()->get());
    };
    kernels::ElementwiseCall call{};
    call.bytes = sizeof(T), call.cell = Index(cell), call.threads = threads, call.steps = steps, call.batch = batch;
    call.inputs = inputs, call.hidden = hidden, call.squash = complex ? (extras ? 1 + steps % 2 : 0) : 0;
    call.weight = array(nodes * inputs, false), call.bias = extras ? array(nodes, false) : 0;
    call.own[0] = array(hidden, false), call.own[1] = array(hidden, false);
    call.x = array(rows * inputs, false), call.noise = extras ? array(rows * nodes, false) : 0;
    call.initial[0] = array(batch * hidden, false), call.initial[1] = array(batch * hidden, false);
    call.states = array((rows + batch) * wide, true);
    if (call.squash) call.features = array((rows + batch) * wide, true);
    if (cell == ElementwiseCell::mingru || cell == ElementwiseCell::minlstm) call.gates = array(rows * nodes, true);
    if (cell == ElementwiseCell::minlstm) call.auxiliary = array(rows * hidden, true);
    kernels::on_elementwise<T>(call, [](const auto& layer) { layer.scan(); });

    call.signal = extras ? array(rows * wide, false) : 0;
    call.delta = array(rows * nodes, true);
    call.carried[0] = array(batch * hidden, false), call.carried[1] = array(batch * hidden, false);
    kernels::on_elementwise<T>(call, [](const auto& layer) { layer.back(); });

    if (!extras) call.last = array(batch * wide, false);
    std::vector<std::int64_t> lengths;
    for (Index b = 0; b < batch; ++b) lengths.push_back(1 + b % steps);
    call.lengths = extras ? reinterpret_cast<std::int64_t>(lengths.data()) : 0;
    call.made_weight = array(nodes * inputs, true), call.made_bias = extras ? array(nodes, true) : 0;
    if (complex || cell == ElementwiseCell::indrnn) call.made_own[0] = array(hidden, true);
    if (complex) call.made_own[1] = array(hidden, true);
    kernels::on_elementwise<T>(call, [](const auto& layer) { layer.trace(); });
    for (const auto& own : kept) own->expect_written("what an element-wise layer makes");
}

template <class T>
void all_elementwise() {
    using kernels::ElementwiseCell;
    constexpr Index sizes[][4] = {{1, 1, 1, 1}, {3, 5, 2, 7}, {40, 2, 9, 50}, {10000, 1, 4, 130}, {5, 40, 17, 67}};
    for (const auto cell : {ElementwiseCell::indrnn, ElementwiseCell::lru, ElementwiseCell::mingru, ElementwiseCell::minlstm})
        for (const Index threads : {1, 3})
            for (const auto& size : sizes)
                for (const bool extras : {false, true})
                    run_elementwise<T>(cell, threads, size[0], size[1], size[2], size[3], extras);
}

// Noise on the nodes or weights of whole sequences, whose entries all count, some or none of a row.
template <class T>
void perturb(Cell cell, kernels::Spread credit, kernels::Penalty loss, Index threads, Index depth, Index steps,
             Index batch, Index hidden, bool last, bool extras) {
    constexpr Index inputs = 3, outputs = 5;
    const Index nodes = kernels::gates_of(cell) * hidden, entries = last ? batch : steps * batch;
    std::vector<std::unique_ptr<Array<T>>> kept;
    const auto address = [&](Index count, bool output = false) {
        kept.push_back(std::make_unique<Array<T>>(count, output));
        return reinterpret_cast<kernels::Address>(kept.back()->get());
    };
    std::vector<kernels::PerturbedParameter> parameters;
    for (Index l = 0; l < depth; ++l)
        for (const Index count : {nodes * (l ? hidden : inputs), nodes * hidden, extras ? nodes : 0, extras ? nodes : 0})
            parameters.push_back(count ? kernels::PerturbedParameter{address(count), address(count, true)}
                                       : kernels::PerturbedParameter{0, 0});
    for (const Index count : {outputs * hidden, outputs})
        parameters.push_back({address(count), address(count, true)});
    std::vector<std::int64_t> labels, lengths;
    for (Index n = 0; n < entries; ++n) labels.push_back(n % outputs);
    for (Index b = 0; b < batch; ++b) lengths.push_back(1 + b % steps);
    kernels::PerturbedCall call{};
    call.bytes = sizeof(T), call.threads = threads, call.steps = steps, call.batch = batch, call.inputs = inputs;
    call.hidden = hidden, call.outputs = outputs, call.layers = depth, call.cell = Index(cell);
    call.credit = Index(credit), call.loss = Index(loss), call.at_last = last;
    call.directions = extras ? 2 : 1, call.antithetic = extras, call.batch_reward = !extras, call.layer_norms = extras;
    call.credit_is_global = extras && !last, call.credit_decay = extras && last ? 0.9 : 0;
    call.gain = extras ? 0.5 : 1, call.sigma = 0.1, call.denominator = 3, call.key = 7;
    call.x = address(steps * batch * inputs);
    call.y = loss == kernels::Penalty::cross_entropy ? reinterpret_cast<kernels::Address>(labels.data())
                                                     : address(entries * outputs);
    if (extras) {
        call.weights = address(entries), call.class_weights = address(outputs);
        call.lengths = reinterpret_cast<kernels::Address>(lengths.data());
        call.h0 = address(depth * batch * hidden), call.c0 = address(depth * batch * hidden);
    }
    call.h = address(depth * batch * hidden, true);
    call.c = address(depth * batch * hidden, cell == Cell::lstm);
    call.parameters = reinterpret_cast<kernels::Address>(parameters.data());
    call.losses = address(entries, true), call.out = address(entries * outputs, true);
    kernels::Perturbed<T>(call).run();
    for (const auto& own : kept) own->expect_written("what perturbations make");
}

template <class T>
void all_perturbed() {
    using namespace kernels;
    constexpr Index sizes[][4] = {{1, 1, 1, 1}, {2, 5, 4, 7}, {1, 3, 20, 67}, {2, 2, 3, 130}};
    constexpr Penalty losses[] = {Penalty::squares, Penalty::cross_entropy, Penalty::binary};
    int turn = 0;
    for (const Cell cell : {Cell::rnn, Cell::gru, Cell::gru_reset_before, Cell::lstm})
        for (const Spread credit : {Spread::nodes, Spread::activity, Spread::weights})
            for (const auto& size : sizes)
                for (const bool last : {false, true})
                    for (const bool extras : {false, true}) {
                        perturb<T>(cell, credit, losses[turn % 3], 1 + turn / 2 % 3, size[0], size[1], size[2], size[3],
                                   last, extras);
                        ++turn;
                    }
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
    all_streams<T>();
    all_elementwise<T>();
    all_perturbed<T>();
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
