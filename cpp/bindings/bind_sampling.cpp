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
    require_key_for_each(keys.size(), networks.size());
    const auto views = views_of_one_shape(networks);
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

py::tuple sample_moments(const PyNetwork& network, const std::string& task, std::int64_t samples, std::uint64_t key,
                         std::int64_t first, int threads) {
    check_range(samples, first, threads);
    const auto parsed = outsample::parse_task(task);
    outsample::Moments moments;
    {
        py::gil_scoped_release release;
        moments = outsample::sample_moments(network.view(), parsed, samples, key, first, threads);
    }
    return py::make_tuple(moments.sum, moments.squares);
}

Array<std::int64_t> count_confusion(const PyNetwork& network, const std::string& task, std::int64_t samples,
                                    std::uint64_t key, std::int64_t first, int threads) {
    check_range(samples, first, threads);
    const auto parsed = outsample::parse_task(task);
    const py::ssize_t outputs = network.view().output_size;
    Array<std::int64_t> counts({outputs, outputs});
    std::int64_t* out = counts.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::count_confusion(network.view(), parsed, samples, key, first, threads, out);
    }
    return counts;
}

Array<float> normals(std::uint64_t key, std::int64_t first, std::int64_t count, int n, int threads) {
    check_range(count, first, threads);
    require_at_least(n, 1, "n");
    Array<float> x({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(n)});
    float* out = x.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::sample_normals(key, first, count, n, threads, out);
    }
    return x;
}

Array<std::uint32_t> philox(std::uint64_t key, std::uint64_t first, std::int64_t count, std::uint32_t c2,
                            std::uint32_t c3) {
    require_at_least(count, 0, "count");
    Array<std::uint32_t> words({static_cast<py::ssize_t>(count), py::ssize_t{4}});
    OUTSAMPLE_KERNEL(philox_kernel)(key, first, count, c2, c3, words.mutable_data());
    return words;
}

}  // namespace

void bind_sampling(py::module_& m) {
    m.def("count_correct", &count_correct, "network"_a, "task"_a, "samples"_a, "key"_a, "first"_a = 0, "threads"_a = 1,
          "Number of correct answers among the samples first ... first + samples - 1 of the stream of a key.");
    m.def("count_correct_many", &count_correct_many, "networks"_a, "task"_a, "samples"_a, "keys"_a, "first"_a = 0,
          "threads"_a = 1, "count_correct for networks of one shape, each with its own key.");
    m.def("sample_moments", &sample_moments, "network"_a, "task"_a, "samples"_a, "key"_a, "first"_a = 0,
          "threads"_a = 1, "Sum and sum of squares of the cross-entropy, or of the squared error for the median task.");
    m.def("count_confusion", &count_confusion, "network"_a, "task"_a, "samples"_a, "key"_a, "first"_a = 0,
          "threads"_a = 1, "Counts by right position (rows) and prediction (columns).");
    m.def("normals", &normals, "key"_a, "first"_a, "count"_a, "n"_a, "threads"_a = 1,
          "Inputs (count, n) of the samples first ... first + count - 1 of the stream of a key.");
    m.def("philox", &philox, "key"_a, "first"_a, "count"_a, "c2"_a = 0, "c3"_a = 0,
          "Words (count, 4) of Philox 4x32-10 for consecutive counters.");
}
