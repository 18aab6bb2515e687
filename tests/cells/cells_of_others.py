"""Cells as other people write them: outside the package, from its public names."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

import timelocal as tl
from timelocal.cells import outer_sum


class IndRNN(tl.AutogradCell):
    """h = tanh(u ⊙ h₋ + V x + b): a vector in the place of W."""

    name = "indrnn-of-others"
    gate_names = ("a",)
    elementwise = True

    def parameter_shapes(self, input_size, hidden_size):
        return {"weight_ih": (hidden_size, input_size), "u": (hidden_size,), "bias": (hidden_size,)}

    def nodes(self, weights, inputs, states):
        return inputs @ weights.weight_ih.t() + weights.u * states[0] + weights.bias

    def update(self, nodes, states):
        return (nodes.tanh(),)


class MinGRU(tl.AutogradCell):
    """z = σ(V_z x + b_z), h = (1 − z) ⊙ h₋ + z ⊙ (V_c x + b_c): no weight sees the state."""

    name = "mingru-of-others"
    gate_names = ("z", "c")
    elementwise = True
    decorrelates = False
    biases = ("bias_z", "bias_c")

    def parameter_shapes(self, i, h):
        return {"weight_z": (h, i), "bias_z": (h,), "weight_c": (h, i), "bias_c": (h,)}

    def nodes(self, w, x, states):
        return torch.cat((linear(x, w.weight_z, w.bias_z), linear(x, w.weight_c, w.bias_c)), -1)

    def update(self, nodes, states):
        z, c = nodes.chunk(2, -1)
        return (torch.lerp(states[0], c, z.sigmoid()),)


class Rotating(tl.AutogradCell):
    """h + i·m = λ (h₋ + i·m₋) + V x with λ = exp(−exp ν + i θ): two states, and laws of its own to begin."""

    name = "rotating"
    gate_names = ("re", "im")
    state_names = ("h", "m")
    elementwise = True
    decorrelates = False

    def parameter_shapes(self, i, h):
        return {"nu": (h,), "theta": (h,), "weight_re": (h, i), "weight_im": (h, i)}

    def initialise(self, name, parameter, hidden_size, generator):
        if name == "nu":
            parameter.uniform_(-2, -0.5, generator=generator)
        elif name == "theta":
            parameter.uniform_(0, 1, generator=generator)
        else:
            super().initialise(name, parameter, hidden_size, generator)

    def nodes(self, w, x, states):
        h, m = states
        size = torch.exp(-torch.exp(w.nu))
        a, b = size * w.theta.cos(), size * w.theta.sin()
        drives = x @ w.weight_re.t(), x @ w.weight_im.t()
        return torch.cat((a * h - b * m + drives[0], b * h + a * m + drives[1]), -1)

    def update(self, nodes, states):
        return nodes.chunk(2, -1)


class Competing(tl.AutogradCell):
    """h = softmax(W h₋ + V x): a node acts on all units."""

    name = "competing"
    gate_names = ("a",)
    acts_locally = False

    def parameter_shapes(self, i, h):
        return {"weight_ih": (h, i), "weight_hh": (h, h)}

    def nodes(self, w, x, states):
        return x @ w.weight_ih.t() + states[0] @ w.weight_hh.t()

    def update(self, nodes, states):
        return (nodes.softmax(-1),)


class OneScale(tl.AutogradCell):
    """h = tanh(s (h₋ + V x)) with one number s for all units."""

    name = "one-scale"
    gate_names = ("a",)

    def parameter_shapes(self, i, h):
        return {"weight_ih": (h, i), "scale": (1,)}

    def nodes(self, w, x, states):
        return w.scale * (states[0] + x @ w.weight_ih.t())

    def update(self, nodes, states):
        return (nodes.tanh(),)


class HandwrittenIndRNN(tl.Cell):
    """`IndRNN` with its derivatives written out, as a `Cell` has them."""

    name = "indrnn-by-hand"
    gate_names = ("a",)
    elementwise = True
    decorrelates = False
    leaks = False
    gates_are_hidden = True
    biases = ()

    def parameter_shapes(self, input_size, hidden_size):
        return {"weight_ih": (hidden_size, input_size), "u": (hidden_size,), "bias": (hidden_size,)}

    def drive(self, weights, inputs, node_noise):
        drive = inputs @ weights.weight_ih.t() + weights.bias
        return drive if node_noise is None else drive + node_noise

    def step(self, weights, drive, state, out):
        torch.addcmul(drive, weights.u, state[0], out=out.gates)
        out.gates.tanh_()

    def node_change(self, weights, before, after, noise):
        moved = weights.u * (after.previous - before.previous)
        return moved + (after.inputs - before.inputs) @ weights.weight_ih.t() + noise

    def local_jacobian(self, trajectory):
        return (1 - trajectory.gates**2,)

    def node_signal(self, weights, jacobian, signal):
        return signal * jacobian[0]

    def backward_step(self, weights, jacobian, signals):
        delta = signals[0] * jacobian[0]
        return delta, (delta * weights.u,)

    def jvp_step(self, weights, jacobian, tangents, node_tangent=None):
        nodes = weights.u * tangents[0]
        return (jacobian[0] * (nodes if node_tangent is None else nodes + node_tangent),)

    def reduced_jacobian(self, weights, jacobian, trace):
        return ((None if trace == "leak" else jacobian[0] * weights.u,),)

    def input_tangent(self, weights, trajectory, tangent):
        return tangent @ weights.weight_ih.t()

    def input_signal(self, weights, trajectory, delta):
        return delta @ weights.weight_ih

    def gradient(self, weights, name, trajectory, delta, outer=outer_sum) -> Tensor:
        if name == "u":
            return outer(delta * trajectory.previous, None)
        return outer(delta, trajectory.inputs if name == "weight_ih" else None)


class _Gates(tl.AutogradCell):
    """One affine map of inputs and state for all gates, with torch.nn's parameters."""

    biases = ("bias_ih", "bias_hh")

    def parameter_shapes(self, i, h):
        return tl.Cell.parameter_shapes(self, i, h)

    def nodes(self, w, x, states):
        return linear(x, w.weight_ih, w.bias_ih) + linear(states[0], w.weight_hh, w.bias_hh)


class DerivedRNN(_Gates):
    name, gate_names, tau = "derived-leaky", ("a",), 2.5

    def update(self, nodes, states):
        return (torch.lerp(states[0], nodes.tanh(), 1 / self.tau),)


class DerivedLSTM(_Gates):
    name, gate_names, state_names = "derived-lstm", ("i", "f", "g", "o"), ("h", "c")

    def update(self, nodes, states):
        i, f, g, o = nodes.chunk(4, -1)
        c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


OTHERS = (IndRNN, MinGRU, Rotating, Competing, OneScale, HandwrittenIndRNN, DerivedRNN, DerivedLSTM)
