// The machine's limit: multiply-adds on registers alone, to set the speed of the kernels against.
#pragma once

#include <cstdint>

#include "outsample/isa.hpp"

namespace outsample {

// Makes rounds x peak_chains(isa) x lanes float32 multiply-adds and returns a number that depends on all of them.
OUTSAMPLE_DECLARE_KERNEL(float, multiply_add_chains, (std::int64_t rounds))

// Multiply-adds in one round.
OUTSAMPLE_DECLARE_KERNEL(int, multiply_adds_per_round, ())

}  // namespace outsample
