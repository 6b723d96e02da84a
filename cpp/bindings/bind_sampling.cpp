#include "bind_network.hpp"
#include "outsample/sampling.hpp"

namespace {

void require_at_least(std::int64_t value, std::int64_t minimum, const char* name) {
    if (value < minimum)
        throw std::invalid_argument(std::string(name) + " must be at least " + std::to_string(minimum) + ", got " +
                                    std::to_string(value));
}

void check_range(std::int64_t samples, std::int64_t first, int threads) {
    require_at_least(samples, 0, "samples");
    require_at_least(first, 0, "first");
    require_at_least(threads, 1, "threads");
    // Room for rounding up to whole blocks of samples.
    if (samples > (std::int64_t{1} << 62) - first)
        throw std::invalid_argument("first + samples must be at most 2^62, got first " + std::to_string(first) +
                                    " and samples " + std::to_string(samples));
}

std::int64_t count_correct(const PyNetwork& network, const std::string& task, std::int64_t samples, std::uint64_t key,
                           std::int64_t first, int threads) {
    check_range(samples, first, threads);
    const auto parsed = outsample::parse_task(task);
    py::gil_scoped_release release;
    return outsample::count_correct(network.view(), parsed, samples, key, first, threads);
}

Array<std::int64_t> count_correct_many(const std::vector<std::shared_ptr<PyNetwork>>& networks, const std::string& task,
                                       std::int64_t samples, const std::vector<std::uint64_t>& keys, std::int64_t first,
                                       int threads) {
    check_range(samples, first, threads);
    if (keys.size() != networks.size())
        throw std::invalid_argument("keys must have one entry per network, got " + std::to_string(keys.size()) +
                                    " for " + std::to_string(networks.size()));
    std::vector<const outsample::Network*> views;
    for (const auto& network : networks) views.push_back(&network->view());
    for (const auto* view : views)
        if (view->hidden_size != views[0]->hidden_size || view->seq_len != views[0]->seq_len)
            throw std::invalid_argument("networks must have one shape, got hidden_size " +
                                        std::to_string(views[0]->hidden_size) + " and " +
                                        std::to_string(view->hidden_size) + ", seq_len " +
                                        std::to_string(views[0]->seq_len) + " and " + std::to_string(view->seq_len));
    const auto parsed = outsample::parse_task(task);
    Array<std::int64_t> correct(static_cast<py::ssize_t>(views.size()));
    std::int64_t* out = correct.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::count_correct_many(views.data(), static_cast<std::int64_t>(views.size()), parsed, samples,
                                      keys.data(), first, threads, out);
    }
    return correct;
}

}  // namespace

void bind_sampling(py::module_& m) {
    m.def("count_correct", &count_correct, "network"_a, "task"_a, "samples"_a, "key"_a, "first"_a = 0, "threads"_a = 1,
          "Number of correct answers among the samples first ... first + samples - 1 of the stream of a key.");
    m.def("count_correct_many", &count_correct_many, "networks"_a, "task"_a, "samples"_a, "keys"_a, "first"_a = 0,
          "threads"_a = 1, "count_correct for networks of one shape, each with its own key.");
}
