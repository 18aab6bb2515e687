// The Python module: sizes and addresses in, nothing but arithmetic inside, the GIL released.
//
// Include it once per instruction set with TIMELOCAL_MODULE (the module's name) defined. It trusts its
// caller: `timelocal.kernels.native` checks shapes, dtypes and contiguity before it passes an address.
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "backward.h"
#include "direct.h"
#include "elementwise/sequence.h"
#include "forward.h"
#include "gradients.h"
#include "head.h"
#include "online/online.h"
#include "peak.h"
#include "perturbed_weights.h"
#include "stream/stream.h"
#include "traces.h"

namespace kernels {
namespace {

template <class T>
T* address(Py_ssize_t value) {
    return reinterpret_cast<T*>(value);
}

// What every kernel takes first; addresses as integers, 0 for "none".
struct Call {
    Py_ssize_t bytes, cell, threads, steps, batch, inputs, hidden;
    double gain;
    Py_ssize_t ih, hh, b_ih, b_hh, h, c, gates, auxiliary;

    template <class T>
    Layer<T> layer() const {
        return {static_cast<Cell>(cell), threads,       steps,          batch,
                inputs,                  hidden,        T(gain),        address<const T>(ih),
                address<const T>(hh),    address<const T>(b_ih), address<const T>(b_hh)};
    }
    template <class T>
    History<T> history() const {
        return {address<T>(h), address<T>(c), address<T>(gates), address<T>(auxiliary)};
    }
};

#define CALL_FORMAT "nnnnnnndnnnnnnnn"
#define CALL_FIELDS(call)                                                                       \
    &call.bytes, &call.cell, &call.threads, &call.steps, &call.batch, &call.inputs,             \
        &call.hidden, &call.gain, &call.ih, &call.hh, &call.b_ih, &call.b_hh, &call.h, &call.c, \
        &call.gates, &call.auxiliary

// Run body(float or double) without the GIL; None, or the Python error that says what went wrong.
template <class Body>
PyObject* released(Py_ssize_t bytes, const Body& body) {
    if (bytes != 4 && bytes != 8) {
        PyErr_SetString(PyExc_ValueError, "the element size must be 4 or 8");
        return nullptr;
    }
    bool exhausted = false;
    Py_BEGIN_ALLOW_THREADS
    try {
        if (bytes == 4)
            body(float());
        else
            body(double());
    } catch (const std::bad_alloc&) {
        exhausted = true;
    }
    Py_END_ALLOW_THREADS
    if (exhausted) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

template <class Body>
PyObject* released(const Call& call, const Body& body) {
    if (call.cell < 0 || call.cell > 3) {
        PyErr_SetString(PyExc_ValueError, "cell must be 0..3");
        return nullptr;
    }
    return released(call.bytes, body);
}

PyObject* scan(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t inputs, noise, h0, c0;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnn", CALL_FIELDS(call), &inputs, &noise, &h0, &c0))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        Forward<T>(layer, address<const T>(inputs), address<const T>(noise), call.history<T>())
            .run(address<const T>(h0), address<const T>(c0));
    });
}

PyObject* backward_scan(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t signal, delta, h, c;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnn", CALL_FIELDS(call), &signal, &delta, &h, &c))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        Backward<T>(layer, call.history<T>(), address<const T>(signal), address<T>(delta))
            .run(address<T>(h), address<T>(c));
    });
}

PyObject* node_signals(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t signal, step_stride, lengths, delta;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnn", CALL_FIELDS(call), &signal, &step_stride,
                          &lengths, &delta))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        credit_all<T>(
            layer, call.history<T>(),
            {address<const T>(signal), step_stride, address<const std::int64_t>(lengths)},
            address<T>(delta));
    });
}

PyObject* weight_gradients(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t inputs, delta, ih, hh, b_ih, b_hh;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnnnn", CALL_FIELDS(call), &inputs, &delta, &ih, &hh,
                          &b_ih, &b_hh))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        gradients<T>(layer, call.history<T>(), address<const T>(inputs), address<const T>(delta),
                     {address<T>(ih), address<T>(hh), address<T>(b_ih), address<T>(b_hh)});
    });
}

PyObject* credit(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t signal, step_stride, lengths, inputs, ih, hh, b_ih, b_hh;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnnnnnn", CALL_FIELDS(call), &signal, &step_stride,
                          &lengths, &inputs, &ih, &hh, &b_ih, &b_hh))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        credited_gradients<T>(
            layer, call.history<T>(), address<const T>(inputs),
            {address<const T>(signal), step_stride, address<const std::int64_t>(lengths)},
            {address<T>(ih), address<T>(hh), address<T>(b_ih), address<T>(b_hh)});
    });
}

PyObject* traced_scan(PyObject*, PyObject* args) {
    Call call;
    Py_ssize_t signal, own, delta, h;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "nnnn", CALL_FIELDS(call), &signal, &own, &delta, &h))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        Traced<T>(layer, call.history<T>(), address<const T>(signal), address<const T>(own),
                  address<T>(delta))
            .run(address<T>(h));
    });
}

// The address of an OnlineArguments.
PyObject* online(PyObject*, PyObject* args) {
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "n", &at)) return nullptr;
    const OnlineArguments& given = *address<const OnlineArguments>(at);
    return released(given.bytes, [&](auto zero) {
        using T = decltype(zero);
        const OnlineCall<T> call = given.call<T>();
        Online<T>(call).run();
    });
}
PyObject* online_size(PyObject*, PyObject*) { return PyLong_FromSize_t(sizeof(OnlineArguments)); }

// The address of a StreamCall; how large it and its parts are, so that both sides can agree.
PyObject* stream(PyObject*, PyObject* args) {
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "n", &at)) return nullptr;
    StreamCall& call = *address<StreamCall>(at);
    return released(call.bytes, [&](auto zero) { call.steps = Stream<decltype(zero)>(call).run(); });
}

PyObject* stream_sizes(PyObject*, PyObject*) {
    return Py_BuildValue("nnnn", Py_ssize_t(sizeof(StreamCall)), Py_ssize_t(sizeof(LayerCall)),
                         Py_ssize_t(sizeof(GroupCall)), Py_ssize_t(sizeof(ParameterCall)));
}

// The address of an ElementwiseCall, and what to do with it.
template <class Work>
PyObject* elementwise(PyObject* args, const Work& work) {
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "n", &at)) return nullptr;
    const ElementwiseCall& call = *address<const ElementwiseCall>(at);
    return released(call.bytes, [&](auto zero) { on_elementwise<decltype(zero)>(call, work); });
}
PyObject* elementwise_scan(PyObject*, PyObject* args) {
    return elementwise(args, [](const auto& layer) { layer.scan(); });
}
PyObject* elementwise_back(PyObject*, PyObject* args) {
    return elementwise(args, [](const auto& layer) { layer.back(); });
}
PyObject* elementwise_trace(PyObject*, PyObject* args) {
    return elementwise(args, [](const auto& layer) { layer.trace(); });
}
PyObject* elementwise_size(PyObject*, PyObject*) { return PyLong_FromSize_t(sizeof(ElementwiseCall)); }

// The address of a PerturbedCall; how large it is.
PyObject* perturbed(PyObject*, PyObject* args) {
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "n", &at)) return nullptr;
    const PerturbedCall& call = *address<const PerturbedCall>(at);
    return released(call.bytes, [&](auto zero) {
        using T = decltype(zero);
        if (static_cast<Spread>(call.credit) == Spread::weights)
            PerturbedWeights<T>(call).run();
        else
            Perturbed<T>(call).run();
    });
}

PyObject* perturbed_sizes(PyObject*, PyObject*) {
    return Py_BuildValue("nn", Py_ssize_t(sizeof(PerturbedCall)), Py_ssize_t(sizeof(PerturbedParameter)));
}

// What `head` takes first, and whatever else has a readout.
struct HeadArguments {
    Py_ssize_t kind, rows, hidden, outputs, features, weight, bias, classes, values;
    Py_ssize_t made, errors, loss, accuracy, weight_gradient, bias_gradient;

    template <class T>
    HeadCall<T> call() const {
        return {static_cast<Loss>(kind),
                rows,
                hidden,
                outputs,
                address<const T>(features),
                address<const T>(weight),
                address<const T>(bias),
                address<const std::int64_t>(classes),
                address<const T>(values),
                address<T>(made),
                address<T>(errors),
                address<T>(loss),
                address<T>(accuracy),
                address<T>(weight_gradient),
                address<T>(bias_gradient)};
    }
};

#define HEAD_FORMAT "nnnnnnnnnnnnnnn"
#define HEAD_FIELDS(head)                                                                        \
    &head.kind, &head.rows, &head.hidden, &head.outputs, &head.features, &head.weight,           \
        &head.bias, &head.classes, &head.values, &head.made, &head.errors, &head.loss,           \
        &head.accuracy, &head.weight_gradient, &head.bias_gradient

PyObject* head(PyObject*, PyObject* args) {
    Py_ssize_t bytes;
    HeadArguments head;
    if (!PyArg_ParseTuple(args, "n" HEAD_FORMAT, &bytes, HEAD_FIELDS(head))) return nullptr;
    return released(bytes, [&](auto zero) { Head<decltype(zero)>(head.call<decltype(zero)>()).run(); });
}

PyObject* direct_feedback(PyObject*, PyObject* args) {
    Call call;
    HeadArguments head;
    Py_ssize_t inputs, h0, c0, feedback, ih, hh, b_ih, b_hh;
    if (!PyArg_ParseTuple(args, CALL_FORMAT HEAD_FORMAT "nnnnnnnn", CALL_FIELDS(call),
                          HEAD_FIELDS(head), &inputs, &h0, &c0, &feedback, &ih, &hh, &b_ih, &b_hh))
        return nullptr;
    return released(call, [&](auto zero) {
        using T = decltype(zero);
        const Layer<T> layer = call.layer<T>();
        direct<T>(layer, call.history<T>(), address<const T>(inputs), address<const T>(h0),
                  address<const T>(c0), head.call<T>(), address<const T>(feedback),
                  {address<T>(ih), address<T>(hh), address<T>(b_ih), address<T>(b_hh)});
    });
}

PyObject* project_errors(PyObject*, PyObject* args) {
    Py_ssize_t bytes, rows, hidden, outputs, errors, feedback, signal;
    if (!PyArg_ParseTuple(args, "nnnnnnn", &bytes, &rows, &hidden, &outputs, &errors, &feedback, &signal))
        return nullptr;
    return released(bytes, [&](auto zero) {
        using T = decltype(zero);
        project<T>(rows, hidden, outputs, address<const T>(errors), address<const T>(feedback),
                   address<T>(signal));
    });
}

PyObject* normal_noise(PyObject*, PyObject* args) {
    Py_ssize_t bytes, threads, first_step, steps, place, count, out;
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "nnKnnnnn", &bytes, &threads, &seed, &first_step, &steps, &place,
                          &count, &out))
        return nullptr;
    return released(bytes, [&](auto zero) {
        using T = decltype(zero);
        normal<T>(threads, seed, first_step, steps, std::uint32_t(place), count, address<T>(out));
    });
}

// look(each value of the dictionaries and each item of the lists in a list) until it says no.
template <class Look>
bool each_member(PyObject* containers, const Look& look) {
    for (Py_ssize_t n = 0; n < PyList_Size(containers); ++n) {
        PyObject* own = PyList_GetItem(containers, n);
        if (PyDict_Check(own)) {
            PyObject *name, *value;
            for (Py_ssize_t at = 0; PyDict_Next(own, &at, &name, &value);)
                if (!look(value)) return false;
        } else {
            for (Py_ssize_t at = 0; at < PyList_Size(own); ++at)
                if (!look(PyList_GetItem(own, at))) return false;
        }
    }
    return true;
}

// What dictionaries and lists hold, as one list.
PyObject* members(PyObject*, PyObject* args) {
    PyObject* containers;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &containers)) return nullptr;
    PyObject* found = PyList_New(0);
    if (found && each_member(containers, [&](PyObject* own) { return PyList_Append(found, own) == 0; })) return found;
    Py_XDECREF(found);
    return nullptr;
}

// Whether they still hold the same objects in the same order.
PyObject* are_members(PyObject*, PyObject* args) {
    PyObject *containers, *expected;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &containers, &PyList_Type, &expected)) return nullptr;
    const Py_ssize_t count = PyList_Size(expected);
    Py_ssize_t next = 0;
    const bool same = each_member(containers, [&](PyObject* own) {
        return next < count && own == PyList_GetItem(expected, next++);
    });
    return PyBool_FromLong(same && next == count);
}

// Returns how many operations were done.
PyObject* peak(PyObject*, PyObject* args) {
    Py_ssize_t bytes, threads, rounds;
    if (!PyArg_ParseTuple(args, "nnn", &bytes, &threads, &rounds)) return nullptr;
    double operations = 0;
    PyObject* done = released(bytes, [&](auto zero) {
        using T = decltype(zero);
        together(threads, [&](Index) {
            volatile T kept = multiply_adds<T>(rounds);
            (void)kept;
        });
        operations = double(threads) * peak_operations<T>(rounds);
    });
    if (!done) return nullptr;
    Py_DECREF(done);
    return PyFloat_FromDouble(operations);
}

PyObject* shares_torch_threads(PyObject*, PyObject*) {
    return PyBool_FromLong(team_runner() != nullptr);
}

PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS, "Forward over a sequence."},
    {"backward_scan", backward_scan, METH_VARARGS, "Signals back through time."},
    {"traced_scan", traced_scan, METH_VARARGS, "Signals back through time along a trace."},
    {"node_signals", node_signals, METH_VARARGS, "State signals to node signals, step by step."},
    {"weight_gradients", weight_gradients, METH_VARARGS, "Sums of node signals (x) what entered."},
    {"credit", credit, METH_VARARGS, "State signals straight to weight gradients."},
    {"online", online, METH_VARARGS, "A stream with a step of learning at every step."},
    {"online_size", online_size, METH_NOARGS, "Bytes of its call."},
    {"stream", stream, METH_VARARGS, "A stream that learns at every step, by stages."},
    {"stream_sizes", stream_sizes, METH_NOARGS, "Bytes of a call, a layer, a group and a parameter."},
    {"elementwise_scan", elementwise_scan, METH_VARARGS, "An element-wise layer over a sequence."},
    {"elementwise_back", elementwise_back, METH_VARARGS, "Its signals back through time."},
    {"elementwise_trace", elementwise_trace, METH_VARARGS, "Its gradients by traces carried forward."},
    {"elementwise_size", elementwise_size, METH_NOARGS, "Bytes of such a call."},
    {"perturbed", perturbed, METH_VARARGS, "Perturbations of whole sequences."},
    {"perturbed_sizes", perturbed_sizes, METH_NOARGS, "Bytes of a call and of a parameter."},
    {"head", head, METH_VARARGS, "A linear readout, its loss, error and gradients."},
    {"direct", direct_feedback, METH_VARARGS, "Forward, head and direct feedback to every step."},
    {"project", project_errors, METH_VARARGS, "Output errors through a feedback matrix."},
    {"normal", normal_noise, METH_VARARGS, "Gaussian noise of some steps at one place."},
    {"multiply_adds", peak, METH_VARARGS, "A loop of nothing else; how many operations it did."},
    {"members", members, METH_VARARGS, "What dictionaries and lists hold."},
    {"are_members", are_members, METH_VARARGS, "Whether they still hold the same objects."},
    {"shares_torch_threads", shares_torch_threads, METH_NOARGS, "Or threads start for each call."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace
}  // namespace kernels

#define TIMELOCAL_STRING_(x) #x
#define TIMELOCAL_STRING(x) TIMELOCAL_STRING_(x)
#define TIMELOCAL_JOIN_(a, b) a##b
#define TIMELOCAL_JOIN(a, b) TIMELOCAL_JOIN_(a, b)

PyMODINIT_FUNC TIMELOCAL_JOIN(PyInit_, TIMELOCAL_MODULE)(void) {
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                     TIMELOCAL_STRING(TIMELOCAL_MODULE),
                                     "Recurrent layers over whole sequences.",
                                     -1,
                                     kernels::methods,
                                     nullptr,
                                     nullptr,
                                     nullptr,
                                     nullptr};
    kernels::team_runner();
    return PyModule_Create(&definition);
}
