// What a network is asked for. Ties: the lowest index wins, in labels and in predictions, as in numpy's argmax.
#pragma once

#include <string>

namespace outsample {

enum class Task {
    second_argmax,  // position of the second-largest input
    argmax,         // position of the largest input
    argmedian,      // position of the median input, n odd
    median,         // the median itself (mean of the middle two for n even), squared error
};

// "2nd_argmax", "argmax", "argmedian", "median"; throws std::invalid_argument otherwise.
Task parse_task(const std::string& name);

}  // namespace outsample
