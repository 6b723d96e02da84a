#include "outsample/task.hpp"

#include <stdexcept>

namespace outsample {

Task parse_task(const std::string& name) {
    if (name == "2nd_argmax") return Task::second_argmax;
    if (name == "argmax") return Task::argmax;
    if (name == "argmedian") return Task::argmedian;
    if (name == "median") return Task::median;
    throw std::invalid_argument("task must be one of 2nd_argmax, argmax, argmedian, median, got '" + name + "'");
}

}  // namespace outsample
