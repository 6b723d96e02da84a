// Threads: std::thread per call, no pool, no OpenMP (its run-time libraries clash with torch's in one process).
#pragma once

#include <cstdint>
#include <functional>

namespace outsample {

// Calls work(first, last) on consecutive pieces of [0, count), one piece per thread, the caller's thread included.
// Pieces begin at multiples of `grain`. The first exception thrown by a piece is thrown again here.
void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t, std::int64_t)>& work);

}  // namespace outsample
