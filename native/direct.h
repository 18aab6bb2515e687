// Direct feedback alignment of one layer in one call: forward, the readout and its loss at the last step, its
// error through the feedback matrix to every step, gradients. Nothing goes back to the caller in between.
#pragma once

#include "forward.h"
#include "gradients.h"
#include "head.h"

namespace kernels {

// head: its features are the last block of the history, which is made here. feedback (h, o). h0 and c0 may be
// null, for zeros.
template <class T>
void direct(const Layer<T>& layer, History<T> history, const T* inputs, const T* h0, const T* c0,
            const HeadCall<T>& head, const T* feedback, Gradients<T> out) {
    history.from_zero = !h0;
    Forward<T>(layer, inputs, nullptr, history).run(h0, c0);
    Head<T>(head).run();
    const Buffer<T> signal(layer.batch * layer.hidden);
    project<T>(layer.batch, layer.hidden, head.outputs, head.errors, feedback, signal.get());
    const StateSignal<T> at_every_step{signal.get(), 0, nullptr};
    if (layer.cell == Cell::gru_reset_before) {  // one unit's delta_r needs all units' delta_n first
        const Buffer<T> delta(layer.steps * layer.batch * layer.nodes());
        credit_all<T>(layer, history, at_every_step, delta.get());
        gradients<T>(layer, history, inputs, delta.get(), out);
    } else {
        credited_gradients<T>(layer, history, inputs, at_every_step, out);
    }
}

}  // namespace kernels
