// The network on a block of samples, for the kernels that evaluate it.
#pragma once

#include "layer.hpp"
#include "outsample/network.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Weights of the second step as a function of the first input, d x 2, written to `place` and returned; null for
// networks with hidden biases. Without them h_1 = relu(W_hi x_0) is on one of two rays, so W_hh h_1 = relu(x_0) W_hh
// relu(W_hi) + relu(-x_0) W_hh relu(-W_hi): two multiply-adds per unit in place of d.
const float* second_step_weights(const Network& network, float* place);

// Logits of a block. second: from second_step_weights. x: n x block, logits: output_size x block, states: 2 x d x block
// of working space, or n x d x block to receive h_1 ... h_n if `keep_states`. Fastest if all are aligned to 64 bytes.
void evaluate_block(const Network& network, const float* second, const float* x, float* states, bool keep_states,
                    float* logits);

}  // namespace outsample::OUTSAMPLE_ISA
