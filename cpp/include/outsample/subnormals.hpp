#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace outsample {

// While one lives, its thread takes numbers below the smallest normal one for 0. Some processors spend more than a
// hundred cycles on each of them, and tails of distributions are full of them. Only for arithmetic: 32-bit integers
// that travel in float registers (indices of points, numbers in the lowest bits of places) would be lost.
class FlushSubnormals {
  public:
#if defined(__x86_64__)
    FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON | denormals_are_zero); }
    ~FlushSubnormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
    FlushSubnormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
    }
    ~FlushSubnormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }
#else
    FlushSubnormals() {}
#endif

    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

  private:
#if defined(__x86_64__)
    static constexpr unsigned denormals_are_zero = 0x40;  // named in the headers of SSE3 only
    unsigned before_;
#elif defined(__aarch64__)
    unsigned long before_;
#endif
};

}  // namespace outsample
