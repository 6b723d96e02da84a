// Training: loss, backward pass and AdamW for the recurrent network.
//
// A flat vector of parameters holds W_hh, W_hi, W_oh, then b_h and b_o where present, in that order (the order in
// which Network's pointers follow each other in PyNetwork).
#pragma once

#include <cstdint>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"
#include "outsample/task.hpp"

namespace outsample {

std::int64_t parameter_count(const Network& network);

// The sequences of a batch: `count` rows of x, or, where x is null, the sequences first ... first + count - 1 of the
// stream of `key`.
struct Sequences {
    const float* x;
    std::uint64_t key;
    std::int64_t first;
    std::int64_t count;
};

// What the backward pass starts from: the task's own targets where both are null, given targets (positions, or values
// for the median task; `count` of them), or given derivatives with respect to the logits (count x outputs).
struct Targets {
    Task task;
    const float* targets;
    const float* logit_gradients;
};

// Sums over the batch, not means.
struct BatchResult {
    double loss;
    std::int64_t correct;  // right answers of an argmax-like task
};

// Derivatives of the summed loss: `gradient` has parameter_count(network) floats, `input_gradient` count x n or null.
BatchResult loss_gradient(const Network& network, const Sequences& sequences, const Targets& targets, float* gradient,
                          float* input_gradient, int threads);

struct AdamW {
    float beta1, beta2, eps, weight_decay;
};

// Learning rate of step s = 0, 1, ...: base * min((s + 1) / warmup_steps, 1) * max(final^(2 s / steps), final).
struct Schedule {
    double base;
    std::int64_t warmup_steps;
    double final_factor;
    std::int64_t steps;

    double learning_rate(std::int64_t step) const;
};

// Everything that training changes. The arrays have parameter_count floats and belong to the caller.
struct TrainingState {
    float* parameters;
    float* first_moment;
    float* second_moment;
    std::int64_t step;
};

// Runs `steps` steps; loss and correct get one value (mean loss, number of right answers) per step. Returns the number
// of steps that went well: fewer than `steps` if the loss or a parameter ceased to be finite; the state is then that
// of the failing step and of no further use. The result does not depend on the number of threads.
std::int64_t train(const Network& shape, Task task, std::int64_t batch_size, std::uint64_t key, const AdamW& adamw,
                   const Schedule& schedule, TrainingState& state, std::int64_t steps, double* loss,
                   std::int64_t* correct, int threads);

OUTSAMPLE_DECLARE_KERNEL(BatchResult, loss_gradient_block,
                         (const Network& network, const Sequences& sequences, const Targets& targets, float* gradient,
                          float* input_gradient, float* scratch))

// Floats of scratch space that loss_gradient_block needs, for any instruction set; aligned to 64 bytes.
std::int64_t loss_gradient_scratch(const Network& network);

// One step of AdamW with the gradient scale * gradient; step = 1, 2, ... Returns whether all parameters are finite.
OUTSAMPLE_DECLARE_KERNEL(bool, adamw_step,
                         (const AdamW& adamw, float learning_rate, float correction1, float correction2, float scale,
                          std::int64_t count, const float* gradient, float* parameters, float* first_moment,
                          float* second_moment))

}  // namespace outsample
