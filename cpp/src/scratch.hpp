// Working space of kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace outsample {

// Floats aligned to 64 bytes, so that no vector straddles two cache lines; grows, never shrinks.
class Scratch {
  public:
    float* floats(std::int64_t count) {
        if (count > size_) {
            storage_.resize(count + 16);
            size_ = count;
        }
        void* start = storage_.data();
        std::size_t space = storage_.size() * sizeof(float);
        return static_cast<float*>(std::align(64, count * sizeof(float), start, space));
    }

  private:
    std::vector<float> storage_;
    std::int64_t size_ = 0;
};

}  // namespace outsample
