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

// Sums over samples of a value and of its square.
struct Moments {
    double sum, squares;
};

// The value is the squared error of the output for Task::median, and the cross-entropy -ln softmax(logits)[right
// position] for the other tasks. Summed in float64 over pieces of fixed size that begin at `first`, in fixed order, so
// the result does not depend on threads.
Moments sample_moments(const Network& network, Task task, std::int64_t samples, std::uint64_t key, std::int64_t first,
                       int threads);

// counts[label * output_size + prediction], output_size x output_size. Not for Task::median.
void count_confusion(const Network& network, Task task, std::int64_t samples, std::uint64_t key, std::int64_t first,
                     int threads, std::int64_t* counts);

// The inputs of samples first ... first + count - 1 for sequences of length n. x: count x n.
void sample_normals(std::uint64_t key, std::int64_t first, std::int64_t count, int n, int threads, float* x);

// Samples first ... last - 1; scratch: sampling_scratch(network) floats (n x 64 for normals), aligned to 64 bytes.
OUTSAMPLE_DECLARE_KERNEL(std::int64_t, count_correct_kernel,
                         (const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                          float* scratch))
OUTSAMPLE_DECLARE_KERNEL(void, moments_kernel,
                         (const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                          float* scratch, double* moments))
OUTSAMPLE_DECLARE_KERNEL(void, confusion_kernel,
                         (const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                          float* scratch, std::int64_t* counts))
OUTSAMPLE_DECLARE_KERNEL(void, normals_kernel,
                         (std::uint64_t key, std::int64_t first, std::int64_t last, int n, float* scratch, float* x))
// The four words of Philox 4x32-10 for `count` counters: low 64 bits first, first + 1, ..., then words c2 and c3.
OUTSAMPLE_DECLARE_KERNEL(void, philox_kernel,
                         (std::uint64_t key, std::uint64_t first, std::int64_t count, std::uint32_t c2,
                          std::uint32_t c3, std::uint32_t* words))

// For any instruction set.
std::int64_t sampling_scratch(const Network& network);

}  // namespace outsample
