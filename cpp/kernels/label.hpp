// Right answers and predictions, one sample per lane. Among equal values the lower index ranks as the larger.
#pragma once

#include "outsample/task.hpp"
#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Position of the largest of `count` vectors, `stride` floats apart.
OUTSAMPLE_INLINE vint argmax(const float* values, int count, std::ptrdiff_t stride) {
    vfloat best = load<vfloat>(values);
    vint position{};
    for (int i = 1; i < count; ++i) {
        const vfloat value = load<vfloat>(values + i * stride);
        position = value > best ? broadcast(i) : position;
        best = max(best, value);
    }
    return position;
}

OUTSAMPLE_INLINE vint second_argmax(const float* values, int count, std::ptrdiff_t stride) {
    vfloat first = load<vfloat>(values), second = broadcast(-__builtin_inff());
    vint first_position{}, second_position{};
    for (int i = 1; i < count; ++i) {
        const vfloat value = load<vfloat>(values + i * stride);
        const vint above_first = value > first, above_second = value > second;
        second_position = above_second ? broadcast(i) : second_position;
        second_position = above_first ? first_position : second_position;
        first_position = above_first ? broadcast(i) : first_position;
        second = max(second, min(first, value));
        first = max(first, value);
    }
    return second_position;
}

// The value that `rank` others stand above, and its position.
OUTSAMPLE_INLINE vint at_rank(const float* values, int count, std::ptrdiff_t stride, int rank, vfloat& found) {
    vint position{};
    for (int i = 0; i < count; ++i) {
        const vfloat value = load<vfloat>(values + i * stride);
        vint above{};  // minus the number of values that rank above i
        for (int j = 0; j < i; ++j) above += load<vfloat>(values + j * stride) >= value;
        for (int j = i + 1; j < count; ++j) above += load<vfloat>(values + j * stride) > value;
        position = above == -rank ? broadcast(i) : position;
        found = above == -rank ? value : found;
    }
    return position;
}

OUTSAMPLE_INLINE vint position_of_rank(const float* values, int count, std::ptrdiff_t stride, int rank) {
    vfloat value{};
    return at_rank(values, count, stride, rank, value);
}

OUTSAMPLE_INLINE vfloat median(const float* values, int count, std::ptrdiff_t stride) {
    vfloat upper{}, lower{};
    at_rank(values, count, stride, count / 2, lower);
    if (count % 2) return lower;
    at_rank(values, count, stride, count / 2 - 1, upper);
    return 0.5f * (lower + upper);
}

// -ln of the softmax probability of a position.
OUTSAMPLE_INLINE vfloat cross_entropy(const float* logits, int count, std::ptrdiff_t stride, vint position) {
    vfloat largest = load<vfloat>(logits);
    for (int i = 1; i < count; ++i) largest = max(largest, load<vfloat>(logits + i * stride));
    vfloat sum{}, chosen{};
    for (int i = 0; i < count; ++i) {
        const vfloat logit = load<vfloat>(logits + i * stride);
        sum += vexp(logit - largest);
        chosen = position == i ? logit : chosen;
    }
    return vlog(sum) + (largest - chosen);
}

// The right position for the tasks that have one.
OUTSAMPLE_INLINE vint label(Task task, const float* x, int n, std::ptrdiff_t stride) {
    switch (task) {
        case Task::second_argmax:
            return second_argmax(x, n, stride);
        case Task::argmax:
            return argmax(x, n, stride);
        default:
            return position_of_rank(x, n, stride, n / 2);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
