#include "outsample/parallel.hpp"

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

namespace outsample {

void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t, std::int64_t)>& work) {
    const std::int64_t grains = (count + grain - 1) / grain;
    const std::int64_t pieces = std::min<std::int64_t>(threads, grains);
    if (pieces <= 1) {
        if (count > 0) work(0, count);
        return;
    }
    std::vector<std::exception_ptr> errors(pieces);
    auto run = [&](std::int64_t piece) {
        try {
            const std::int64_t first = grains * piece / pieces * grain;
            const std::int64_t last = std::min(count, grains * (piece + 1) / pieces * grain);
            work(first, last);
        } catch (...) {
            errors[piece] = std::current_exception();
        }
    };
    std::vector<std::thread> workers;
    for (std::int64_t piece = 1; piece < pieces; ++piece) workers.emplace_back(run, piece);
    run(0);
    for (auto& worker : workers) worker.join();
    for (auto& error : errors)
        if (error) std::rethrow_exception(error);
}

}  // namespace outsample
