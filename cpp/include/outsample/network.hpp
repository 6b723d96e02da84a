// The one-layer ReLU recurrent network: h_0 = 0, h_{t+1} = relu(W_hh h_t + W_hi x_t + b_h), logits = W_oh h_n + b_o.
#pragma once

namespace outsample {

// A view: plain pointers to row-major float32 weights that somebody else owns. Biases are null when absent.
struct Network {
    int hidden_size;    // d
    int seq_len;        // n
    int output_size;    // rows of W_oh: n for the argmax family, 1 for the median task
    const float* W_hh;  // d x d
    const float* W_hi;  // d
    const float* W_oh;  // output_size x d
    const float* b_h;   // d or null
    const float* b_o;   // output_size or null
};

// Multiply-adds of one forward pass: the first step has no W_hh term because h_0 = 0 (2,624 for d = 16, n = 10).
inline long long forward_multiply_adds(const Network& network) {
    const long long d = network.hidden_size;
    return d + (network.seq_len - 1) * (d * d + d) + network.output_size * d;
}

}  // namespace outsample
