// Training: loss, backward pass through time and AdamW for the recurrent network.
//
// A flat vector of parameters holds W_hh, W_hi, W_oh, then b_h and b_o where present, in this order.
#pragma once

#include <cstdint>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"
#include "outsample/task.hpp"

namespace outsample {

std::int64_t parameter_count(int hidden_size, int output_size, bool biases);
inline std::int64_t parameter_count(const Network& network) {
    return parameter_count(network.hidden_size, network.output_size, false) + (network.b_h ? network.hidden_size : 0) +
           (network.b_o ? network.output_size : 0);
}

// The network whose weights are a vector of parameters.
Network network_of(int hidden_size, int seq_len, int output_size, bool biases, const float* parameters);

// A batch: `count` rows of x, or, where x is null, sequences of the training stream of `key` from number `first` on, a
// multiple of tile_sequences.
struct Sequences {
    const float* x;
    std::uint64_t key;
    std::int64_t first;
    std::int64_t count;
};
constexpr std::int64_t tile_sequences = 32;

// What the backward pass starts from: the task's own targets where both are null, given targets (positions, or values
// for the median task; `count` of them), or given derivatives with respect to the logits (count x outputs).
struct Targets {
    Task task;
    const float* targets;
    const float* logit_gradients;
};

// Sums over a batch. `correct` counts right answers, for the tasks that have a right position.
struct BatchResult {
    double loss;
    std::int64_t correct;
};

// Derivatives of the summed loss: `gradient` has parameter_count(network) values, `input_gradient` is count x n or
// null. The result does not depend on the number of threads.
BatchResult loss_gradient(const Network& network, const Sequences& sequences, const Targets& targets, double* gradient,
                          float* input_gradient, int threads);

struct AdamW {
    double beta1, beta2, eps, weight_decay;
};

// Learning rate of step s = 0, 1, ...: base * min((s + 1) / warmup_steps, 1) * max(final_factor^(2 s / steps),
// final_factor).
struct Schedule {
    double base;
    std::int64_t warmup_steps;
    double final_factor;
    std::int64_t steps;

    double learning_rate(std::int64_t step) const;
};

// What training changes: vectors of parameter_count floats, and the number of steps done.
struct TrainingState {
    float* parameters;
    float* first_moment;
    float* second_moment;
    std::int64_t step;
};

// What a run trains, and on what.
struct Recipe {
    int hidden_size, seq_len, output_size;
    bool biases;
    Task task;
    std::int64_t batch_size;
    std::uint64_t key;
    AdamW adamw;
    Schedule schedule;
};

// Runs `steps` steps; `loss` (mean over the batch) and `correct` get one value per step. Returns how many steps went
// well: fewer than `steps` if the loss or a parameter ceased to be finite, and then the state is that of the failing
// step and of no further use. The result does not depend on the number of threads.
std::int64_t train(const Recipe& recipe, TrainingState& state, std::int64_t steps, double* loss, std::int64_t* correct,
                   int threads);

// Time steps whose derivatives the kernel keeps, to add their weight gradients in one go.
constexpr int gradient_chunk = 9;

// Floats of scratch space that loss_gradient_kernel needs, for any instruction set; they begin on a multiple of 64
// bytes.
std::int64_t loss_gradient_scratch(const Network& network);

OUTSAMPLE_DECLARE_KERNEL(BatchResult, loss_gradient_kernel,
                         (const Network& network, const Sequences& sequences, const Targets& targets, float* gradient,
                          float* input_gradient, float* scratch))

// Step number `step` (1, 2, ...) of AdamW with the gradient scale * (sum of `pieces` vectors, one after the other). All
// vectors hold `count` floats, a multiple of 16, zero beyond the parameters. Returns whether all parameters are finite.
OUTSAMPLE_DECLARE_KERNEL(bool, adamw_kernel,
                         (const AdamW& adamw, double learning_rate, std::int64_t step, double scale, std::int64_t count,
                          const float* gradients, std::int64_t pieces, float* parameters, float* first_moment,
                          float* second_moment))

}  // namespace outsample
