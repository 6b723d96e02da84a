// Working space of kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace outsample {

// Floats aligned to 64 bytes, so that no vector straddles two cache lines; grows, never shrinks. They are not set to
// zero, which would take as long as the first ten samples.
class Scratch {
  public:
    float* floats(std::int64_t count) {
        if (count > size_) {
            storage_.reset(new float[count + 16]);
            size_ = count;
        }
        void* start = storage_.get();
        std::size_t space = (size_ + 16) * sizeof(float);
        return static_cast<float*>(std::align(64, count * sizeof(float), start, space));
    }

  private:
    std::unique_ptr<float[]> storage_;
    std::int64_t size_ = 0;
};

}  // namespace outsample
