// Point rules: weighted sums of a network's answers over points that do not depend on its weights, and the exact
// integration over the last input that makes them smooth.
#pragma once

#include <cstddef>
#include <cstdint>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"
#include "outsample/task.hpp"

namespace outsample {

// Points side by side in a table.
constexpr int points_per_group = 64;

// Tables of points, copy after copy: point i of copy j is number j points + i, and number f stands in column f modulo
// points_per_group of group f / points_per_group. Where the groups are apart, copies are whole groups.
//
// Rows: with exact_last the inputs x_0 ... x_{n-2}; the values `before` and `after` of the last input at which the
// right position changes; the right position before, and after, them (int32 in the place of floats; in between it is
// the last one); the weight. Without: the inputs x_0 ... x_{n-1}, the right position, the weight.
struct PointTable {
    // All points_per_group columns may be read from the beginning of any group that has a point: positions in the
    // others must be valid ones.
    const float* data;
    std::ptrdiff_t row_stride, group_stride;  // floats from a row to the next, and from a group to the next
    std::int64_t copies, points;              // points of each copy; those that fill it up have a weight of zero
    bool exact_last;
    const int* position = nullptr;  // where each input stands in the sequence; null if in order
};

// A run of so many copies at random, and one of the orders of the inputs in which neighbours stay neighbours round the
// circle, the same for all of them: independent inputs may trade places. A function of the key alone. position: room
// for the inputs, and for `least_positions` at least.
constexpr int least_positions = 16;
PointTable random_run(const PointTable& table, std::int64_t copies, int inputs, std::uint64_t key, int* position);

constexpr int point_rows(int seq_len, bool exact_last) { return exact_last ? seq_len + 4 : seq_len + 2; }

struct RuleSum {
    double sum;
    double squares;  // sum over strata of the squared difference of their two samples
    // Intervals of the last input between neighbouring breakpoints within its range; for the median task the
    // breakpoints themselves. Values in place of a walk count as intervals_of_values.
    std::int64_t walked;
};

// More intervals than any network has.
constexpr std::int64_t any_intervals = 1 << 30;

// For each copy, the sum of weight times probability of a right answer; the result is how many intervals were walked.
// At most `intervals` times as many are walked as there are points: where more might be needed, `last_values` values
// stand for the last input, which are fixed too.
std::int64_t point_sums(const Network& network, const PointTable& table, std::int64_t intervals, int threads,
                        double* sums);

// The same for each of many networks and tables, with as many copies each, bit for bit; threads share them.
// sums: count x copies; walked: count.
struct PointJob {
    const Network* network;
    PointTable table;
};
void point_sums_many(const PointJob* jobs, std::int64_t count, std::int64_t intervals, int threads, double* sums,
                     std::int64_t* walked);

// Boxes that the strata share evenly. Only of a multiple of it do strata lie in one box each, so that the boxes may
// have different probabilities.
constexpr int strata_boxes = 8;

// Sum of P(right answer | first n - 1 inputs), or for the median task of E(squared error | first n - 1 inputs), over
// two random samples in each of `strata` strata of equal probability (kernels/strata.hpp). At most `intervals` times as
// many intervals are walked as there are samples: where more might be needed, `last_values` stratified random values
// stand for the last input (not for the median task, whose breakpoints are walked all). Which samples these are depends
// on earlier ones alone, so that none is biased. Throws std::invalid_argument unless n >= 2.
RuleSum conditional_sum(const Network& network, Task task, std::int64_t strata, std::uint64_t key,
                        std::int64_t intervals, int threads);

// The same for each of many networks with a key of its own, bit for bit; threads share the networks.
void conditional_sum_many(const Network* const* networks, const std::uint64_t* keys, std::int64_t count, Task task,
                          std::int64_t strata, std::int64_t intervals, int threads, RuleSum* results);

// Multiply-adds of a rule: those made once, those of each point, and those of each interval walked on the last input
// (for the median task each breakpoint). Counted are multiplications, additions and reciprocals of real numbers (a
// multiplication and an addition that belong together are one); comparisons, minima and maxima are not, as in
// forward_multiply_adds.
struct RuleCost {
    long long once, point, interval;
    long long most;     // intervals of a point
    long long planned;  // intervals of a point that budgets are planned for
};
RuleCost rule_cost(const Network& network, Task task, bool exact_last);

// Values of the last input that may stand for its walk, one in each of so many parts of equal probability.
constexpr int last_values = 4;

// As how many intervals they count, rounded up: they take a last step each and leave out the slopes. Less than most
// points have.
inline std::int64_t intervals_of_values(const Network& network) {
    const std::int64_t d = network.hidden_size, outputs = network.output_size, interval = 5 * outputs + 24;
    return (last_values * d * (outputs + 1) - outputs * (d + 2) + interval - 1) / interval;
}

// P(right answer | first n - 1 inputs), or E(squared error | first n - 1 inputs), for `count` rows of n - 1 inputs.
void conditional_expectations(const Network& network, Task task, const float* x, std::int64_t count, int threads,
                              float* expectations);

// first: number of the first point, if the table is a part of a larger one.
OUTSAMPLE_DECLARE_KERNEL(std::int64_t, point_sums_kernel,
                         (const Network& network, const PointTable& table, std::int64_t first, std::int64_t intervals,
                          float* scratch, double* sums))
OUTSAMPLE_DECLARE_KERNEL(RuleSum, conditional_sum_kernel,
                         (const Network& network, Task task, std::uint64_t key, std::int64_t strata, std::int64_t first,
                          std::int64_t last, std::int64_t intervals, float* scratch))
OUTSAMPLE_DECLARE_KERNEL(void, conditional_expectations_kernel,
                         (const Network& network, Task task, const float* x, std::int64_t count, float* scratch,
                          float* expectations))

// Floats of scratch space that each of these kernels needs, for any instruction set.
std::int64_t points_scratch(const Network& network);

}  // namespace outsample
