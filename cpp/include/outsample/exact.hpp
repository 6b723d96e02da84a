// Exact integration over Gaussian inputs, for sequences of up to three inputs.
//
// Without biases the network is positively homogeneous, so only the direction of the input matters: two points, the
// circle or the sphere. It is cut into convex cells on which the ranking of the inputs is fixed and the network is
// linear; on a cell, the part where the label's logit wins is an intersection of half-spaces, and its measure has a
// closed form (solid angles: Van Oosterom and Strackee, IEEE Trans. Biomed. Eng. 30, 1983).
#pragma once

#include <cstdint>

#include "outsample/network.hpp"
#include "outsample/task.hpp"

namespace outsample {

constexpr int exact_max_seq_len = 3;

struct ExactResult {
    double value;                // accuracy, or mean squared error for the median task
    double error_bound;          // |value - exact value| is below this, to first order in the unit roundoff
    double coverage;             // measure of all cells over that of the sphere: 1 but for rounding
    std::int64_t cells;          // pieces on which ranking and activations are fixed
    std::int64_t multiply_adds;  // counted while working; square roots and arc tangents as 16
};

// float64 throughout; the same result for any number of threads. Ties: the lowest index wins, on regions as well.
// Throws std::invalid_argument for a network with biases or more than exact_max_seq_len inputs.
ExactResult integrate_exactly(const Network& network, Task task, int threads);

}  // namespace outsample
