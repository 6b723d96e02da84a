// Random sampling: how often a network is right on standard normal inputs.
//
// Sample i of the stream of a key is a function of (key, i, n) alone, so counts are additive over ranges and do not
// depend on threads or on how the work was cut.
#pragma once

#include <cstdint>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"
#include "outsample/task.hpp"

namespace outsample {

// Number of correct answers among the samples first ... first + samples - 1. Tasks with a right position only; throws
// std::invalid_argument for Task::median.
std::int64_t count_correct(const Network& network, Task task, std::int64_t samples, std::uint64_t key,
                           std::int64_t first = 0, int threads = 1);

// The same for `count` networks, each with its own key; networks is an array of pointers.
void count_correct_many(const Network* const* networks, std::int64_t count, Task task, std::int64_t samples,
                        const std::uint64_t* keys, std::int64_t first, int threads, std::int64_t* correct);

// scratch: sampling_scratch(network) floats.
OUTSAMPLE_DECLARE_KERNEL(std::int64_t, count_correct_kernel,
                         (const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                          float* scratch))

std::int64_t sampling_scratch(const Network& network);

}  // namespace outsample
