// Attention-only transformers over functions {0..n-1} -> {0..n-1}, and the longest-cycle task.
#pragma once

#include <cstdint>

namespace outsample {

// A view of row-major float32 weights. One head, no biases, no mask, no normalisation:
// h_i = embed[x_i] + pos_embed[i]; every layer adds out_proj applied to attention(in_proj h) to h;
// logits = unembed h at the last position.
struct Transformer {
    int hidden_size;         // d
    int seq_len;             // n
    int layers;              // at least 1
    const float* embed;      // n x d
    const float* pos_embed;  // n x d
    const float* in_proj;    // layers x 3d x d: queries, keys, values
    const float* out_proj;   // layers x d x d
    const float* unembed;    // n x d
};

// Multiply-adds of one forward pass; the last layer is evaluated at the last position only. Softmax is not counted.
long long forward_multiply_adds(const Transformer& model);

// Logits (count x n, float64 throughout) of inputs x (count x n), whose values must lie in 0..n-1 (checked:
// std::invalid_argument).
void forward(const Transformer& model, const std::int32_t* x, std::int64_t count, double* logits, int threads);

// The longest cycle's length of the function i -> x[i], less one: the label.
int longest_cycle_label(const std::int32_t* x, int n);

// How many of the inputs the model labels correctly; equal logits go to the lowest index.
std::int64_t count_correct(const Transformer& model, const std::int32_t* x, std::int64_t count, int threads);

// The same over the inputs with numbers [first, first + count): input i is i written in base n, n digits, the most
// significant first.
std::int64_t count_correct_range(const Transformer& model, std::int64_t first, std::int64_t count, int threads);

}  // namespace outsample
